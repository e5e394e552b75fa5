// Reading an adapter's GGUF file, and every check that does not need its weights in memory.
#pragma once

#include "alora/model.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace alora {

// What a file says about the base it was made for; empty where it says nothing.
struct AdapterBase {
    std::string name;
    bool published = false; // whether that is a name on a hub, and not of someone's folder
    std::string weights;    // fingerprints
    std::string vocabulary;
    std::vector<std::string> invocation_pieces; // entries of its vocabulary, one for each invocation token
};

struct AdapterFile {
    std::string name;
    std::map<std::string, std::string> metadata;
    std::vector<Token> invocation_tokens;
    int activation_offset = 0;
    std::optional<std::string> io_yaml;
    float alpha = 0.0f;
    int rank = 0;
    std::vector<std::string> targets;
    uint64_t size = 0;
    float largest = 0.0f; // of all its numbers, where these were read
    AdapterBase base;
};

// Throws AdapterError, and AdapterMismatchError for tensors that do not fit the model. `numbers`: whether to check that
// every weight is a finite number, too.
AdapterFile read_adapter_file(const std::string & path, const Model & model, bool numbers);

} // namespace alora
