// The adapters' part of a projection in two operations, where few rows are adapted and a processor computes alone
// (low_rank.h).
#pragma once

#include "row_lora.h"

namespace alora::graph {

// Whether this batch's adapted rows are few, and nothing but a processor computes.
bool suits_fusing(const row_plan & plan);

// An adapter's weights for rows of this projection.
struct span_lora {
    const row_span & rows;
    const lora_weight & weight;
};

// `product` with B(Ax) of all spans added to their rows; null where some weights are of a type or size that it does not
// know.
ggml_tensor * add_fused(llm_graph_result & result, ggml_tensor * rows, ggml_tensor * product,
                        const std::vector<span_lora> & spans);

} // namespace alora::graph
