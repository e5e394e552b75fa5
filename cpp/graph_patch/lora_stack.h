// The adapters of one model side by side, where their weights lie on a GPU.
//
// There a batch costs as many kernels as it has operations, whatever their size: with A and B of its own, each adapter
// would bring four for every projection. So weights of the same input (q, k and v, or gate and up) get one A for all
// loaded adapters, [inputs, weights x width], and each of them one B, [width, outputs], where every adapter has its own
// columns of the width. One product with A serves them all; a mask (stacked_rows.h) leaves each row its adapter's
// columns.
//
// Why not ggml_mul_mat_id, with adapters as experts: on CUDA it first sorts the rows by expert, a kernel more for each
// product, waits for the host where a batch has more than 128 or 512 rows, wants equal ranks, and could not share A's
// product between weights. What it would spare, multiplying a row with the columns of others, is small beside W x.
//
// Why F32, whatever the files have: cuBLAS then takes activations as they are, one kernel in place of three, and adds
// up in F32. A stack is immutable. Loading or closing an adapter makes a new one, on the device, and the old one goes
// with the last graph that was built on it. The adapter's own copy is given up: it becomes a slice of the stack.
#pragma once

#include "ggml-cpp.h"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

struct ggml_tensor;
struct llama_adapter_lora;

namespace alora::graph {

// A is [inputs, rank], B is [rank, outputs]; `scale` is alpha / rank.
struct lora_weight {
    ggml_tensor * a;
    ggml_tensor * b;
    float scale;
};

// By the base weight that they add to.
using lora_weights = std::unordered_map<const ggml_tensor *, lora_weight>;

struct lora_stack {
    // An adapter's columns.
    struct part {
        uint64_t adapter_id;
        int64_t first;
        int64_t rank;
        float scale;

        bool operator==(const part & other) const {
            return adapter_id == other.adapter_id && first == other.first && rank == other.rank && scale == other.scale;
        }
    };

    // Which columns are whose; weights with the same adapters share one, and so the mask.
    struct layout {
        std::vector<part> parts;
        int64_t columns = 0; // up to the end of the last part
        int64_t width = 0;   // rounded up to what kernels like; the rest is zero
    };

    // Weights of one input.
    struct group {
        ggml_tensor * a = nullptr;
        size_t layout = 0;
        int64_t n_members = 0;
    };

    struct member {
        const group * of;
        int64_t index;
        ggml_tensor * b;
    };

    std::vector<layout> layouts;
    std::deque<group> groups; // members point into it
    std::unordered_map<const ggml_tensor *, member> members;
    // Each adapter's own weights, as slices of the above, in the order of loading.
    std::map<uint64_t, lora_weights> slices;

    std::vector<ggml_context_ptr> contexts;
    std::vector<ggml_backend_buffer_ptr> buffers;

    uint64_t bytes() const;
};

// A model's stack as it is now.
class lora_stacks {
public:
    // Null while there is none.
    std::shared_ptr<const lora_stack> current() const;

    // Moves those of an adapter's weights that lie on a GPU into the stack. `largest` is the largest of its numbers:
    // products with a mad one could overflow in other rows, too, where zero times infinity is no longer zero. Such an
    // adapter keeps its weights, and so does one for which the device has no room.
    void add(uint64_t adapter_id, lora_weights & weights, llama_adapter_lora & adapter, float largest);
    void remove(uint64_t adapter_id);

private:
    void replace(std::shared_ptr<const lora_stack> stack);

    mutable std::mutex mutex_;
    std::shared_ptr<const lora_stack> current_;
};

// Whether adapters of this base weight are stacked: those on a GPU, and for tests, where the environment variable
// ALORA_STACK_ADAPTERS is set, those on a processor, too.
bool is_stacked(const ggml_tensor * base);

} // namespace alora::graph
