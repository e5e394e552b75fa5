#include "fused_rows.h"

#include "cpu_function.hpp"
#include "low_rank.h"

#include "ggml-backend.h"
#include "ggml.h"
#include "llama-graph.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

namespace alora::graph {

namespace {

// More rows are worth products of matrices.
constexpr int64_t most_fused_rows = 32;

struct functions {
    low_rank_function * low_rank = cpu_function<low_rank_function>(low_rank_name);
    low_rank_function * add_low_rank = cpu_function<low_rank_function>(add_low_rank_name);
    // Where there is a GPU, ggml may move a product there for this batch or that.
    bool alone = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU) == nullptr &&
                 ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU) == nullptr;
};

const functions & cpu() {
    static const functions found;
    return found;
}

// Keeps the spans of a graph's operations as long as the graph.
class fused_spans : public llm_graph_input_i {
public:
    void set_input(const llama_ubatch * /*ubatch*/) override {}
    bool can_reuse(const llm_graph_params & /*params*/) override { return true; }

    std::vector<low_rank_span> * add(std::vector<low_rank_span> spans) { return &kept_.emplace_back(std::move(spans)); }

private:
    std::deque<std::vector<low_rank_span>> kept_;
};

fused_spans & spans_of(llm_graph_result & result) {
    for (const llm_graph_input_ptr & input : result.inputs) {
        if (auto * ours = dynamic_cast<fused_spans *>(input.get())) {
            return *ours;
        }
    }
    return dynamic_cast<fused_spans &>(*result.add_input(std::make_unique<fused_spans>()));
}

bool known(const ggml_tensor * weight) {
    return weight->type == GGML_TYPE_F16 || weight->type == GGML_TYPE_F32;
}

} // namespace

bool suits_fusing(const row_plan & plan) {
    int64_t n_rows = 0;
    for (const row_span & span : plan.tokens) {
        n_rows += span.count;
    }
    return n_rows <= most_fused_rows && cpu().alone && cpu().low_rank != nullptr;
}

ggml_tensor * add_fused(llm_graph_result & result, ggml_tensor * rows, ggml_tensor * product,
                        const std::vector<span_lora> & spans) {
    if (product->ne[0] % outputs_at_once != 0 || rows->type != GGML_TYPE_F32 || rows->nb[0] != sizeof(float)) {
        return nullptr;
    }
    std::vector<low_rank_span> fused;
    int64_t n_numbers = 0;
    for (const span_lora & span : spans) {
        const lora_weight & weight = span.weight;
        if (!known(weight.a) || !known(weight.b) || weight.a->ne[1] > largest_fused_rank) {
            return nullptr;
        }
        fused.push_back(
            {weight.a, weight.b, weight.scale * span.rows.scale, span.rows.first, span.rows.count, n_numbers});
        n_numbers += span.rows.count * weight.a->ne[1];
    }
    ggml_context * ctx = result.get_ctx();
    void * kept = spans_of(result).add(std::move(fused));
    ggml_tensor * low =
        ggml_custom_4d(ctx, GGML_TYPE_F32, n_numbers, 1, 1, 1, &rows, 1, cpu().low_rank, GGML_N_TASKS_MAX, kept);
    return ggml_custom_inplace(ctx, product, &low, 1, cpu().add_low_rank, GGML_N_TASKS_MAX, kept);
}

} // namespace alora::graph
