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

// Throws AdapterError or AdapterMismatchError.
AdapterFile read_adapter_file(const std::string & path, const Model & model);

} // namespace alora
