// Where quantized weights lie in tiles (tiled_weights.hpp), in the CPU's memory: a buffer type beside ggml's own for
// the processor, which packs what is loaded and multiplies with it.
//
// llama.cpp's own kernels unpack weights anew for each row or for each four; the larger part of the time of a check's
// few rows went there.
#pragma once

#include "ggml-backend.h"

// Null where the processor that this is compiled for has no vectors for it.
ggml_backend_buffer_type_t alora_tiled_buffer_type();
