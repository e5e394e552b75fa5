// Whether memory that will be asked for is there.
#pragma once

#include "memory_need.h"

#include <string>

namespace alora {

// What is needed and what is available where something does not fit, as the middle of a sentence; empty where it fits.
std::string shortage(const graph::memory_need & need);

// Throws ModelLoadError unless the model's weights fit, with the smallest context that could be made.
void check_room_for_model(const std::string & path, const llama_model & model, graph::memory_need weights);

// Throws BackendError unless the context's cells and buffers fit.
void check_room_for_context(const llama_model & model, const llama_context_params & params);

} // namespace alora
