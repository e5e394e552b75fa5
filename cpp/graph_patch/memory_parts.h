// The parts of a llama.cpp context's memory.
//
// Attention layers keep a cell for each row. Hybrid models have recurrent layers besides: these keep one state for each
// sequence, that of its last row, so a sequence can go on but not back. The two parts take llama_memory_seq_*() apart.
#pragma once

#include "llama.h"

namespace alora::graph {

// The part with a cell for each row.
llama_memory_t row_cells(llama_context & ctx);

// The part with a state for each sequence; nullptr where the model has none.
llama_memory_t recurrent_states(llama_context & ctx);

} // namespace alora::graph
