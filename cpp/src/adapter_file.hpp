// Reading an adapter's GGUF file, and every check that does not need its weights in memory.
#pragma once

#include "alora/model.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace alora {

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
};

struct AdapterChecks {
    bool base = true;    // whether the model is the base that the file was made for, as far as it says
    bool numbers = true; // whether every weight is a finite number
};

// Throws AdapterError or AdapterMismatchError.
AdapterFile read_adapter_file(const std::string & path, const Model & model, AdapterChecks checks);

} // namespace alora
