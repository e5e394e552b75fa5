// Rows under adapters of a stack, inside llama.cpp's graph.
//
// All adapted rows of a batch, from the first to the last, go through the stack's A at once; a mask, the scale in the
// columns of a row's adapter and zero elsewhere, leaves each row its own; one product with B adds it up. The mask is an
// input: a graph is reused whichever adapters its rows are under.
#pragma once

#include "row_lora.h"

class llm_graph_result;

namespace alora::graph {

// How many numbers the products of a batch with one A may have. More, and multiplying rows with the columns of others
// takes longer than launching a few kernels. Buffers are measured for it.
constexpr int64_t stacked_numbers = 1 << 18;

// Whether the plan's rows take the stacked form.
bool suits_stack(const row_plan & plan);

// `product` is W x; returns it with the adapters' part added. Throws where rows do not line up with the batch.
ggml_tensor * add_stacked(llm_graph_result & result, const row_plan & plan, const ggml_tensor * weight,
                          ggml_tensor * rows, ggml_tensor * product);

// The same memory, while llama.cpp measures its buffers.
ggml_tensor * add_stacked_worst_case(llm_graph_result & result, ggml_tensor * product);

} // namespace alora::graph
