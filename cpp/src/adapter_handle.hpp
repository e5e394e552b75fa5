// What an Adapter holds of llama.cpp and of the graph patch.
#pragma once

#include "alora/adapter.hpp"

#include "llama.h"
#include "row_lora.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace alora {

struct Adapter::Handle {
    std::shared_ptr<const Model> model;
    llama_adapter_lora * lora = nullptr;
    std::unique_ptr<graph::row_adapter> rows;
    std::string path;
    std::string name;
    std::map<std::string, std::string> metadata;
    std::vector<Token> invocation_tokens;
    int activation_offset = 0;
    std::optional<Token> control_token;
    std::optional<std::string> io_yaml;
    int rank = 0;
    float alpha = 0.0f;
    std::vector<std::string> targets;
    uint64_t size = 0;

    ~Handle();
};

} // namespace alora
