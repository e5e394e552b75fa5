// ggml's CPU kernels, compiled for one kind of processor in a library of their own: how the core gets at them.
//
// Such a library has ggml-base within it, hidden, as the core has: neither lets a symbol of ggml out, but for this one
// function. What they share are structures, so both must come from one build; each holds its own state of ggml-base, of
// which only the log's callback matters, and which is handed over.
#pragma once

#include "ggml-backend.h"

#include <string>

// `build` names what the core was compiled from. Null where the library is of another build.
using alora_cpu_start_function = ggml_backend_reg_t (*)(const char * build, ggml_log_callback log, void * log_data);

namespace alora::graph {

// Makes the library at that path (UTF-8) the process's CPU backend; it stays loaded until the process ends. To be
// called before anything of ggml's registry is, and no more once it has succeeded. Returns what went wrong, or nothing.
std::string load_cpu_variant(const std::string & path);

} // namespace alora::graph
