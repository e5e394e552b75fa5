// What a Model holds of llama.cpp.
#pragma once

#include "alora/model.hpp"

#include "llama.h"
#include "lora_stack.h"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace alora {

struct LlamaModelDeleter {
    void operator()(llama_model * model) const { llama_model_free(model); }
};

struct Model::Handle {
    std::unique_ptr<llama_model, LlamaModelDeleter> model;
    const llama_vocab * vocab = nullptr;
    std::string path;
    std::string architecture;
    std::map<std::string, std::string> metadata;
    std::map<std::string, Token> control_tokens;
    Fingerprints fingerprints;
    bool vocabulary_only = false;
    bool offloaded = false; // layers are on a GPU
    std::vector<BuiltInAdapter> built_in_adapters;
    // llama.cpp keeps a list of adapters in the model and reads it when a context is made.
    std::mutex adapters_mutex;
    graph::lora_stacks stacks; // those of its adapters that are on a GPU
};

} // namespace alora
