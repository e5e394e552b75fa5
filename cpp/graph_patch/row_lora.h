// Rows to adapters, inside llama.cpp's graph.
//
// A context holds a row_table: for each sequence, from which position on which adapter governs its rows. Before a
// graph is built (or reused) the table turns the rows of the ubatch into a row_plan: a few spans of consecutive rows
// under one adapter. build_lora_mm then adds each adapter's B(Ax) to exactly the rows of its spans: on a processor few
// rows in two operations (fused_rows.h) and many one span after another; on a GPU all spans at once (stacked_rows.h).
// The plan is part of what decides whether a graph can be reused, so changing the table never invalidates the
// scheduler.
#pragma once

#include "lora_stack.h"

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

struct ggml_context;
struct ggml_tensor;
struct llama_adapter_lora;
struct llama_context;
struct llama_model;
struct llama_ubatch;
class llm_graph_result;

namespace alora::graph {

// One adapter's weights; those that are in a stack are slices of it, and not here. No two adapters of a process share
// an id, so a graph built for one that is gone is never taken for another's.
struct row_adapter {
    const uint64_t id;
    lora_weights weights;
    size_t n_weights = 0; // with those in a stack
};

// Consecutive rows under one adapter.
struct row_span {
    const row_adapter * adapter;
    uint64_t adapter_id;
    float scale;
    int64_t first;
    int64_t count;

    bool operator==(const row_span & other) const {
        return adapter_id == other.adapter_id && scale == other.scale && first == other.first && count == other.count;
    }
};

// What one ubatch needs. The last layers of most models see only the rows whose logits are wanted, hence two lists.
struct row_plan {
    std::vector<row_span> tokens;
    std::vector<row_span> outputs;
    int64_t n_tokens = 0;
    // Null where no adapter of the batch has weights in it.
    std::shared_ptr<const lora_stack> stack;
    std::vector<bool> needed; // by the stack's layouts
    bool stacked = false;     // whether its weights are applied to all spans at once
    bool whole = false;       // and there are no other weights, so that only the mask tells adapters apart
    // True while llama.cpp measures its buffers: stands for one adapter on every row of every projection.
    bool worst_case = false;

    static row_plan reserve();

    // Whether both have the same graph.
    bool operator==(const row_plan & other) const;
};

// Which adapter governs which sequence, from which position on.
class row_table {
public:
    void govern(int32_t seq, int32_t first, const row_adapter * adapter, float scale);
    void release(int32_t seq);
    void use(const lora_stacks & stacks) { model_stacks = &stacks; }
    row_plan plan(const llama_ubatch & ubatch) const;

private:
    struct entry {
        const row_adapter * adapter = nullptr;
        float scale = 0.0f;
        int32_t first = 0;
    };

    std::vector<entry> entries;
    const lora_stacks * model_stacks = nullptr;
};

// Called by build_lora_mm: `product` is W x; returns it with the adapters' part added to the rows that they govern.
ggml_tensor * add_row_lora(llm_graph_result & result, const row_plan & plan, const ggml_tensor * weight,
                           ggml_tensor * rows, ggml_tensor * product);

// Throws unless these rows of a projection are the batch's, at least up to `end`.
void check_rows(const ggml_tensor * weight, const ggml_tensor * rows, int64_t end);

// Names of weights that add_row_lora can adapt: linear projections of a block, one row in, one row out.
bool is_adaptable(const std::string & weight_name);

// Graph nodes that an adapter adds to every ubatch in which it has a span, and how many a context has room for.
uint32_t adapter_nodes(const row_adapter & adapter);
uint32_t spare_nodes(const llama_model & model);

// The model's weight of that name, or nullptr.
const ggml_tensor * base_weight(const llama_model & model, const std::string & name);

// One without weights: it only tells its rows from others'.
std::unique_ptr<row_adapter> make_row_adapter();

// From llama.cpp's loaded adapter to ours, and into the model's stack as far as that takes it: see lora_stacks::add.
std::unique_ptr<row_adapter> make_row_adapter(const llama_model & model, llama_adapter_lora & adapter,
                                              lora_stacks & stacks, float largest);

// The table of a context, and the bytes of its compute buffers.
row_table & row_table_of(llama_context & ctx);
uint64_t compute_bytes(llama_context & ctx);

} // namespace alora::graph
