// What weights and contexts take in memory, worked out before any of it is allocated.
//
// load_tensors (llama-model.cpp) calls check_weights() when it knows which tensor goes into which buffer, as it lies in
// the file or repacked, and has neither mapped nor allocated anything. Whoever loads a model gives a weights_check for
// the time of the call.
#pragma once

#include "llama.h"

#include <cstdint>
#include <functional>
#include <map>

struct llama_model_loader;

namespace alora::graph {

// Bytes on each device; nullptr stands for the host's own memory.
using memory_need = std::map<ggml_backend_dev_t, uint64_t>;

// What a context's cells, states and compute buffers take. Cells and states are exact; of the compute buffers only what
// grows with the context and the widest rows is counted, so they are never less than this.
memory_need context_need(const llama_model & model, const llama_context_params & params);

// While it lives, `check` gets what the model that this thread loads will take; what it throws ends the loading, and
// reaches llama.cpp's caller as a model that could not be loaded.
class weights_check {
public:
    using function = std::function<void(const llama_model & model, memory_need need)>;

    explicit weights_check(function check);
    ~weights_check();
    weights_check(const weights_check &) = delete;
    weights_check & operator=(const weights_check &) = delete;
};

// Called by load_tensors.
void check_weights(const llama_model & model, const llama_model_loader & loader);

} // namespace alora::graph
