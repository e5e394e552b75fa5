// What tells base models apart: an adapter was made for one of them.
#pragma once

#include "alora/export.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace alora {

// Digests of a model's GGUF file, as 16 hexadecimal digits each.
struct Fingerprints {
    std::string vocabulary; // of every token's text and type
    // Of the norms' weights. They are float32 in every quantization of a model, and no other training run has the same
    // ones. None where the file is one part of several, or has no norms.
    std::optional<std::string> weights;
};

// Reads them without loading the model. Throws ModelLoadError for a file that is no GGUF model.
ALORA_API Fingerprints read_fingerprints(const std::string & path);

// Whether a base model's name, perhaps with its organization ("org/name"), can mean a model that is called by one of
// `names`: all words of one are among the words of the other. True where there is nothing to compare.
ALORA_API bool names_match(std::string_view base, const std::vector<std::string> & names);

} // namespace alora
