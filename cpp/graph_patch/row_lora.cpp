#include "row_lora.h"

#include "fused_rows.h"
#include "ggml.h"
#include "llama-adapter.h"
#include "llama-batch.h"
#include "llama-context.h"
#include "llama-graph.h"
#include "llama-model.h"
#include "stacked_rows.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <stdexcept>

namespace alora::graph {

namespace {

// view of the rows, A x, B (A x), its scaling, and the addition into the product.
constexpr uint32_t nodes_per_weight = 5;

// How many adapters on all projections one ubatch has room for; of adapters on fewer projections it holds more.
constexpr uint32_t spare_adapters = 8;

constexpr std::array<const char *, 13> adaptable_suffixes = {
    ".attn_q.weight",         ".attn_k.weight", ".attn_v.weight",   ".attn_qkv.weight",       ".attn_output.weight",
    ".ffn_gate.weight",       ".ffn_up.weight", ".ffn_down.weight", ".ffn_gate_shexp.weight", ".ffn_up_shexp.weight",
    ".ffn_down_shexp.weight", ".ssm_in.weight", ".ssm_out.weight",
};

// Projections whose results every later row reads from the cache.
constexpr std::array<const char *, 3> cached_suffixes = {".attn_k.weight", ".attn_v.weight", ".attn_qkv.weight"};

// A masked cell still takes part in attention, with weight 0, and 0 times infinity is NaN. So where an adapter
// overflows what it stores is kept finite (in f16 and after rotation, too): its own branch is spoiled then, and no
// other.
constexpr float cached_limit = 32768.0f;

bool ends_with(const std::string & text, const std::string & end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

template <typename Suffixes>
bool ends_with_any(const std::string & text, const Suffixes & suffixes) {
    return std::any_of(suffixes.begin(), suffixes.end(), [&](const char * suffix) { return ends_with(text, suffix); });
}

void extend(std::vector<row_span> & spans, const row_adapter * adapter, float scale, int64_t row) {
    if (!spans.empty()) {
        row_span & last = spans.back();
        if (last.adapter_id == adapter->id && last.scale == scale && last.first + last.count == row) {
            ++last.count;
            return;
        }
    }
    spans.push_back({adapter, adapter->id, scale, row, 1});
}

// The largest rank that buffers are measured for; a larger one works too, at the price of growing them once.
constexpr int64_t reserved_rank = 128;

// Takes the memory that one adapter on every row would take, without needing its weights.
ggml_tensor * add_worst_case(llm_graph_result & result, const ggml_tensor * weight, ggml_tensor * rows,
                             ggml_tensor * product) {
    if (!is_adaptable(ggml_get_name(weight))) {
        return product;
    }
    if (is_stacked(weight)) {
        product = add_stacked_worst_case(result, product);
    }
    ggml_context * ctx = result.get_ctx();
    const int64_t rank = std::min({reserved_rank, rows->ne[0], product->ne[0]});
    ggml_tensor * low = ggml_cont(ctx, ggml_view_2d(ctx, rows, rank, rows->ne[1], rows->nb[1], 0));
    ggml_tensor * delta = ggml_scale(ctx, product, 1.0f);
    delta = ggml_acc_inplace(ctx, delta, low, delta->nb[1], delta->nb[2], delta->nb[3], 0);
    return ggml_add_inplace(ctx, product, delta);
}

// The form that the batch takes of its adapters' weights in the model's stack.
void choose_form(row_plan & plan, std::shared_ptr<const lora_stack> stack) {
    const auto governs = [&](uint64_t adapter_id) {
        return std::any_of(plan.tokens.begin(), plan.tokens.end(),
                           [&](const row_span & span) { return span.adapter_id == adapter_id; });
    };
    for (const lora_stack::layout & layout : stack->layouts) {
        plan.needed.push_back(std::any_of(layout.parts.begin(), layout.parts.end(),
                                          [&](const auto & part) { return governs(part.adapter_id); }));
    }
    if (std::find(plan.needed.begin(), plan.needed.end(), true) == plan.needed.end()) {
        return;
    }
    plan.stack = std::move(stack);
    plan.stacked = suits_stack(plan);
    plan.whole = plan.stacked && std::all_of(plan.tokens.begin(), plan.tokens.end(),
                                             [](const row_span & span) { return span.adapter->weights.empty(); });
}

// Null where the adapter adds nothing to this weight, or does so in the stacked form.
const lora_weight * span_weight(const row_plan & plan, const row_span & span, const ggml_tensor * weight) {
    if (const auto own = span.adapter->weights.find(weight); own != span.adapter->weights.end()) {
        return &own->second;
    }
    if (plan.stack == nullptr || plan.stacked) {
        return nullptr;
    }
    const auto adapter = plan.stack->slices.find(span.adapter_id);
    if (adapter == plan.stack->slices.end()) {
        return nullptr;
    }
    const auto slice = adapter->second.find(weight);
    return slice == adapter->second.end() ? nullptr : &slice->second;
}

// One adapter's part, as operations of ggml.
ggml_tensor * add_span(ggml_context * ctx, const span_lora & span, ggml_tensor * rows, ggml_tensor * product) {
    const auto offset = static_cast<size_t>(span.rows.first);
    ggml_tensor * input = ggml_view_2d(ctx, rows, rows->ne[0], span.rows.count, rows->nb[1], offset * rows->nb[1]);
    ggml_tensor * delta = ggml_mul_mat(ctx, span.weight.b, ggml_mul_mat(ctx, span.weight.a, input));
    delta = ggml_scale(ctx, delta, span.weight.scale * span.rows.scale);
    return ggml_acc_inplace(ctx, product, delta, product->nb[1], product->nb[2], product->nb[3],
                            offset * product->nb[1]);
}

bool same_places(const std::vector<row_span> & left, const std::vector<row_span> & right) {
    const auto end = [](const std::vector<row_span> & spans) { return spans.back().first + spans.back().count; };
    return left.empty() == right.empty() &&
           (left.empty() || (left.front().first == right.front().first && end(left) == end(right)));
}

} // namespace

row_plan row_plan::reserve() {
    row_plan plan;
    plan.worst_case = true;
    return plan;
}

bool row_plan::operator==(const row_plan & other) const {
    if (worst_case != other.worst_case || n_tokens != other.n_tokens || stack != other.stack ||
        stacked != other.stacked || whole != other.whole) {
        return false;
    }
    if (whole) {
        return needed == other.needed && same_places(tokens, other.tokens) && same_places(outputs, other.outputs);
    }
    return tokens == other.tokens && outputs == other.outputs;
}

void row_table::govern(int32_t seq, int32_t first, const row_adapter * adapter, float scale) {
    if (entries.size() <= static_cast<size_t>(seq)) {
        entries.resize(static_cast<size_t>(seq) + 1);
    }
    entries[static_cast<size_t>(seq)] = {adapter, scale, first};
}

void row_table::release(int32_t seq) {
    if (static_cast<size_t>(seq) < entries.size()) {
        entries[static_cast<size_t>(seq)] = {};
    }
}

row_plan row_table::plan(const llama_ubatch & ubatch) const {
    row_plan plan;
    plan.n_tokens = ubatch.n_tokens;
    int64_t output = 0;
    for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
        const auto seq = static_cast<size_t>(ubatch.seq_id[i][0]);
        const bool wanted = ubatch.output[i] != 0;
        if (seq < entries.size()) {
            const entry & governing = entries[seq];
            if (governing.adapter != nullptr && ubatch.pos[i] >= governing.first) {
                extend(plan.tokens, governing.adapter, governing.scale, i);
                if (wanted) {
                    extend(plan.outputs, governing.adapter, governing.scale, output);
                }
            }
        }
        output += wanted ? 1 : 0;
    }
    if (!plan.tokens.empty() && model_stacks != nullptr) {
        if (std::shared_ptr<const lora_stack> stack = model_stacks->current()) {
            choose_form(plan, std::move(stack));
        }
    }
    return plan;
}

void check_rows(const ggml_tensor * weight, const ggml_tensor * rows, int64_t end) {
    if (end > rows->ne[1] || ggml_nrows(rows) != rows->ne[1]) {
        throw std::runtime_error(std::string("rows of ") + ggml_get_name(weight) +
                                 " do not line up with the batch: this architecture cannot be adapted there");
    }
}

ggml_tensor * add_row_lora(llm_graph_result & result, const row_plan & plan, const ggml_tensor * weight,
                           ggml_tensor * rows, ggml_tensor * product) {
    if (plan.worst_case) {
        return add_worst_case(result, weight, rows, product);
    }
    if (plan.stacked) {
        product = add_stacked(result, plan, weight, rows, product);
    }
    // Where all rows are wanted both lists are equal; where fewer are, the row count tells which one is meant.
    const bool all_rows = rows->ne[1] == plan.n_tokens;
    std::vector<span_lora> spans;
    for (const row_span & span : all_rows ? plan.tokens : plan.outputs) {
        if (const lora_weight * lora = span_weight(plan, span, weight)) {
            check_rows(weight, rows, span.first + span.count);
            spans.push_back({span, *lora});
        }
    }
    ggml_context * ctx = result.get_ctx();
    ggml_tensor * fused = spans.empty() || !suits_fusing(plan) ? nullptr : add_fused(result, rows, product, spans);
    if (fused != nullptr) {
        product = fused;
    } else {
        for (const span_lora & span : spans) {
            product = add_span(ctx, span, rows, product);
        }
    }
    if (!plan.tokens.empty() && ends_with_any(ggml_get_name(weight), cached_suffixes)) {
        product = ggml_clamp(ctx, product, -cached_limit, cached_limit);
    }
    return product;
}

bool is_adaptable(const std::string & weight_name) {
    return weight_name.rfind("blk.", 0) == 0 && ends_with_any(weight_name, adaptable_suffixes);
}

uint32_t adapter_nodes(const row_adapter & adapter) {
    return static_cast<uint32_t>(adapter.n_weights) * nodes_per_weight;
}

uint32_t spare_nodes(const llama_model & model) {
    uint32_t n_adaptable = 0;
    for (const auto & [name, tensor] : model.tensors_by_name) {
        n_adaptable += is_adaptable(name) ? 1 : 0;
    }
    return n_adaptable * nodes_per_weight * spare_adapters;
}

const ggml_tensor * base_weight(const llama_model & model, const std::string & name) {
    return model.get_tensor(name.c_str());
}

std::unique_ptr<row_adapter> make_row_adapter() {
    static std::atomic<uint64_t> next_id{1};
    return std::make_unique<row_adapter>(row_adapter{next_id++, {}, 0});
}

std::unique_ptr<row_adapter> make_row_adapter(const llama_model & model, llama_adapter_lora & adapter,
                                              lora_stacks & stacks, float largest) {
    auto made = make_row_adapter();
    for (auto & [name, weight] : adapter.ab_map) {
        made->weights[model.get_tensor(name.c_str())] = {weight.a, weight.b, weight.get_scale(adapter.alpha, 1.0f)};
    }
    made->n_weights = made->weights.size();
    stacks.add(made->id, made->weights, adapter, largest);
    return made;
}

row_table & row_table_of(llama_context & ctx) {
    return ctx.rows;
}

uint64_t compute_bytes(llama_context & ctx) {
    ggml_backend_sched_t sched = ctx.get_sched();
    uint64_t bytes = 0;
    for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); ++i) {
        bytes += ggml_backend_sched_get_buffer_size(sched, ggml_backend_sched_get_backend(sched, i));
    }
    return bytes;
}

} // namespace alora::graph
