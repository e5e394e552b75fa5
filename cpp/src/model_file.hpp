// What is read from a model file before llama.cpp reads it.
#pragma once

#include "alora/model.hpp"

#include <string>
#include <vector>

namespace alora {

struct ModelFile {
    Fingerprints fingerprints;
    std::vector<BuiltInAdapter> built_in_adapters;
};

// Throws ModelLoadError where llama.cpp would end the process. A file that is no GGUF at all passes, and comes back
// empty: llama.cpp says well what is wrong with it.
ModelFile read_model_file(const std::string & path);

} // namespace alora
