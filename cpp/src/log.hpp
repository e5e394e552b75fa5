// llama.cpp's log, kept from stderr, and its errors for our own messages.
#pragma once

#include "alora/log.hpp"

#include <string>

namespace alora {

// Has llama.cpp's and ggml's lines come here.
void take_logs();

// Starts the ggml backends with our log in place; cheap after the first call. Throws BackendError, see
// chosen_cpu_variant().
void start_backend();

// The first error line of llama.cpp on this thread since the last call, or `otherwise`.
std::string take_error(const std::string & otherwise);

} // namespace alora
