// The parts of a llama.cpp context's memory.
//
// Attention layers keep a cell for each row. Hybrid models have recurrent layers besides: these keep one state for each
// sequence, that of its last row, so a sequence can go on but not back. The two parts take llama_memory_seq_*() apart.
#pragma once

#include "llama.h"

namespace alora::graph {

struct memory_parts {
    llama_memory_t cells;  // one for each row
    llama_memory_t states; // one for each sequence; nullptr where the model has no recurrent layers
};

memory_parts memory_parts_of(llama_context & ctx);

} // namespace alora::graph
