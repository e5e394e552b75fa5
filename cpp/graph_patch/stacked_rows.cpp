#include "stacked_rows.h"

#include "ggml-backend.h"
#include "ggml.h"
#include "llama-graph.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace alora::graph {

namespace {

// Reading columns that no row of the batch needs takes longer than launching a few kernels, too.
constexpr int64_t spare_columns = 8;

struct row_range {
    int64_t first = 0;
    int64_t count = 0;
};

row_range range_of(const std::vector<row_span> & spans) {
    if (spans.empty()) {
        return {};
    }
    return {spans.front().first, spans.back().first + spans.back().count - spans.front().first};
}

// What the stacked form of one graph shares: masks, filled anew for each batch, and products with A.
class stacked_input : public llm_graph_input_i {
public:
    explicit stacked_input(row_plan plan) : plan_(std::move(plan)) {}

    void set_input(const llama_ubatch * /*ubatch*/) override {
        for (const scale_mask & mask : masks_) {
            std::vector<float> values(static_cast<size_t>(ggml_nelements(mask.tensor)), 0.0f);
            if (plan_.stack != nullptr) {
                fill(values, mask);
            }
            ggml_backend_tensor_set(mask.tensor, values.data(), 0, values.size() * sizeof(float));
        }
    }

    // What makes up the graph was compared already: only who governs which row is new.
    bool can_reuse(const llm_graph_params & params) override {
        plan_ = params.rows;
        return true;
    }

    // [width, 1, rows], for one layout and one of the plan's two lists of rows.
    ggml_tensor * mask_of(ggml_context * ctx, size_t layout, bool all_rows, int64_t width, int64_t n_rows) {
        for (const scale_mask & mask : masks_) {
            if (mask.layout == layout && mask.all_rows == all_rows) {
                return mask.tensor;
            }
        }
        ggml_tensor * tensor = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, width, 1, n_rows);
        ggml_set_input(tensor);
        masks_.push_back({tensor, layout, all_rows});
        return tensor;
    }

    // A x of a group, masked: [width, members, rows].
    ggml_tensor * low_rank(ggml_context * ctx, const lora_stack::group & group, ggml_tensor * rows, bool all_rows,
                           const row_range & range) {
        for (const product & known : products_) {
            if (known.group == &group && known.rows == rows) {
                return known.low;
            }
        }
        const int64_t width = group.a->ne[1] / group.n_members;
        ggml_tensor * input = ggml_view_2d(ctx, rows, rows->ne[0], range.count, rows->nb[1],
                                           static_cast<size_t>(range.first) * rows->nb[1]);
        ggml_tensor * low = ggml_mul_mat(ctx, group.a, input);
        low = ggml_reshape_3d(ctx, low, width, group.n_members, range.count);
        low = ggml_mul(ctx, low, mask_of(ctx, group.layout, all_rows, width, range.count));
        products_.push_back({&group, rows, low});
        return low;
    }

private:
    struct scale_mask {
        ggml_tensor * tensor;
        size_t layout;
        bool all_rows;
    };
    struct product {
        const lora_stack::group * group;
        const ggml_tensor * rows;
        ggml_tensor * low;
    };

    void fill(std::vector<float> & values, const scale_mask & mask) const {
        const std::vector<row_span> & spans = mask.all_rows ? plan_.tokens : plan_.outputs;
        const int64_t first = range_of(spans).first;
        const int64_t width = mask.tensor->ne[0];
        for (const row_span & span : spans) {
            for (const lora_stack::part & part : plan_.stack->layouts[mask.layout].parts) {
                if (part.adapter_id != span.adapter_id) {
                    continue;
                }
                for (int64_t row = span.first - first; row < span.first - first + span.count; ++row) {
                    std::fill_n(values.begin() + row * width + part.first, part.rank, part.scale * span.scale);
                }
            }
        }
    }

    row_plan plan_;
    std::vector<scale_mask> masks_;
    std::vector<product> products_;
};

stacked_input & input_of(llm_graph_result & result, const row_plan & plan) {
    for (const llm_graph_input_ptr & input : result.inputs) {
        if (auto * ours = dynamic_cast<stacked_input *>(input.get())) {
            return *ours;
        }
    }
    return dynamic_cast<stacked_input &>(*result.add_input(std::make_unique<stacked_input>(plan)));
}

} // namespace

bool suits_stack(const row_plan & plan) {
    const int64_t n_rows = range_of(plan.tokens).count;
    const auto governs = [&](const lora_stack::part & part) {
        return std::any_of(plan.tokens.begin(), plan.tokens.end(),
                           [&](const row_span & span) { return span.adapter_id == part.adapter_id; });
    };
    return std::all_of(plan.stack->groups.begin(), plan.stack->groups.end(), [&](const lora_stack::group & group) {
        const lora_stack::layout & layout = plan.stack->layouts[group.layout];
        int64_t used = 0;
        for (const lora_stack::part & part : layout.parts) {
            used += governs(part) ? part.rank : 0;
        }
        return used == 0 || (layout.columns <= spare_columns * used && group.a->ne[1] * n_rows <= stacked_numbers);
    });
}

ggml_tensor * add_stacked(llm_graph_result & result, const row_plan & plan, const ggml_tensor * weight,
                          ggml_tensor * rows, ggml_tensor * product) {
    const auto found = plan.stack->members.find(weight);
    const bool all_rows = rows->ne[1] == plan.n_tokens;
    const row_range range = range_of(all_rows ? plan.tokens : plan.outputs);
    if (found == plan.stack->members.end() || !plan.needed[found->second.of->layout] || range.count == 0) {
        return product;
    }
    check_rows(weight, rows, range.first + range.count);
    const lora_stack::member & member = found->second;
    ggml_context * ctx = result.get_ctx();
    ggml_tensor * low = input_of(result, plan).low_rank(ctx, *member.of, rows, all_rows, range);
    low = ggml_view_2d(ctx, low, low->ne[0], low->ne[2], low->nb[2], static_cast<size_t>(member.index) * low->nb[1]);
    ggml_tensor * delta = ggml_mul_mat(ctx, member.b, low);
    return ggml_acc_inplace(ctx, product, delta, product->nb[1], product->nb[2], product->nb[3],
                            static_cast<size_t>(range.first) * product->nb[1]);
}

ggml_tensor * add_stacked_worst_case(llm_graph_result & result, ggml_tensor * product) {
    ggml_context * ctx = result.get_ctx();
    ggml_tensor * mask = input_of(result, {}).mask_of(ctx, 0, true, stacked_numbers, 1);
    ggml_tensor * low = ggml_mul(ctx, ggml_arange(ctx, 0.0f, static_cast<float>(stacked_numbers), 1.0f), mask);
    ggml_tensor * delta = ggml_scale(ctx, product, 1.0f);
    delta = ggml_acc_inplace(ctx, delta, ggml_view_1d(ctx, low, 1, 0), delta->nb[1], delta->nb[2], delta->nb[3], 0);
    return ggml_acc_inplace(ctx, product, delta, product->nb[1], product->nb[2], product->nb[3], 0);
}

} // namespace alora::graph
