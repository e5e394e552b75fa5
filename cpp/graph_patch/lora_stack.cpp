#include "lora_stack.h"

#include "cpu_function.hpp"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "llama-adapter.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

namespace alora::graph {

namespace {

using adapters = std::map<uint64_t, lora_weights>;

// CUDA's kernels for few rows take inner sizes that are multiples of this.
constexpr int64_t width_step = 32;

// And they read two numbers at once, so an adapter's slice begins where such a pair may begin, whatever the ranks.
constexpr int64_t first_step = 4;

int64_t rounded_up(int64_t number, int64_t step) {
    return (number + step - 1) / step * step;
}

// Times activations of up to 1e6 and sums over 1e5 inputs, far from F32's largest number.
constexpr float largest_stacked = 1e20f;

// Projections of one block that read the same input. Where an architecture has it otherwise, the product with A is made
// for each input: slower, not wrong.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> siblings = {{
    {"attn_q.weight", "attn_qkv"},
    {"attn_k.weight", "attn_qkv"},
    {"attn_v.weight", "attn_qkv"},
    {"ffn_gate.weight", "ffn_gate_up"},
    {"ffn_up.weight", "ffn_gate_up"},
    {"ffn_gate_shexp.weight", "ffn_gate_up_shexp"},
    {"ffn_up_shexp.weight", "ffn_gate_up_shexp"},
}};

// ggml's plain memory names no device.
ggml_backend_dev_t device_of(ggml_backend_buffer_type_t type) {
    const ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
    return device != nullptr ? device : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

bool is_stacked(ggml_backend_buffer_type_t type) {
    if (ggml_backend_dev_type(device_of(type)) == GGML_BACKEND_DEVICE_TYPE_CPU) {
        return std::getenv("ALORA_STACK_ADAPTERS") != nullptr; // NOLINT(concurrency-mt-unsafe): nobody sets it
    }
    return !ggml_backend_buft_is_host(type); // a GPU's, not the processor's memory that it can reach
}

std::string group_name(const std::string & weight) {
    for (const auto & [suffix, name] : siblings) {
        if (weight.size() > suffix.size() &&
            weight.compare(weight.size() - suffix.size(), suffix.size(), suffix) == 0) {
            return weight.substr(0, weight.size() - suffix.size()).append(name);
        }
    }
    return weight;
}

ggml_context_ptr make_context(size_t n_tensors, size_t more_bytes = 0) {
    return ggml_context_ptr(ggml_init({n_tensors * ggml_tensor_overhead() + more_bytes, nullptr, true}));
}

// Makes the tensors of a stack, has them allocated, and fills them.
class builder {
public:
    explicit builder(const adapters & sources) : sources_(sources) {}

    // Null where the device has no room or cannot copy these types.
    std::shared_ptr<const lora_stack> build() {
        lay_out();
        if (!allocate() || !slice() || !copy()) {
            return nullptr;
        }
        return stack_;
    }

private:
    // What a base weight has in the stack.
    struct planned {
        const ggml_tensor * base;
        ggml_backend_buffer_type_t type;
        size_t layout;
    };

    size_t find_layout(const lora_stack::layout & wanted) {
        std::vector<lora_stack::layout> & all = stack_->layouts;
        const auto found =
            std::find_if(all.begin(), all.end(), [&](const auto & known) { return known.parts == wanted.parts; });
        const auto index = static_cast<size_t>(found - all.begin());
        if (found == all.end()) {
            all.push_back(wanted);
        }
        return index;
    }

    planned plan_of(const ggml_tensor * base) {
        lora_stack::layout layout;
        ggml_backend_buffer_type_t type = nullptr;
        for (const auto & [id, weights] : sources_) {
            if (const auto found = weights.find(base); found != weights.end()) {
                const lora_weight & weight = found->second;
                const int64_t first = rounded_up(layout.columns, first_step);
                layout.parts.push_back({id, first, weight.a->ne[1], weight.scale});
                layout.columns = first + weight.a->ne[1];
                type = ggml_backend_buffer_get_type(weight.a->buffer);
            }
        }
        layout.width = rounded_up(layout.columns, width_step);
        return {base, type, find_layout(layout)};
    }

    void lay_out() {
        std::map<std::string, const ggml_tensor *> bases;
        for (const auto & adapter : sources_) {
            for (const auto & entry : adapter.second) {
                bases.emplace(ggml_get_name(entry.first), entry.first);
            }
        }
        std::map<std::tuple<std::string, size_t, int64_t, ggml_backend_buffer_type_t>, std::vector<planned>> grouped;
        for (const auto & [name, base] : bases) {
            const planned made = plan_of(base);
            grouped[{group_name(name), made.layout, base->ne[0], made.type}].push_back(made);
        }
        for (const auto & entry : grouped) {
            add_group(entry.second, 2 * bases.size());
        }
    }

    void add_group(const std::vector<planned> & members, size_t n_tensors) {
        const planned & first = members.front();
        const int64_t width = stack_->layouts[first.layout].width;
        ggml_context_ptr & context = by_type_[first.type];
        if (!context) {
            context = make_context(n_tensors);
        }
        const auto n_members = static_cast<int64_t>(members.size());
        ggml_tensor * a = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, first.base->ne[0], n_members * width);
        const lora_stack::group & group = stack_->groups.emplace_back(lora_stack::group{a, first.layout, n_members});
        int64_t index = 0;
        for (const planned & member : members) {
            ggml_tensor * b = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, width, member.base->ne[1]);
            stack_->members.emplace(member.base, lora_stack::member{&group, index++, b});
        }
    }

    bool allocate() {
        for (auto & [type, context] : by_type_) {
            ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(context.get(), type));
            if (!buffer) {
                return false;
            }
            ggml_backend_buffer_clear(buffer.get(), 0);
            ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            stack_->buffers.push_back(std::move(buffer));
            stack_->contexts.push_back(std::move(context));
        }
        return true;
    }

    // A part of a tensor's memory as a tensor of its own, so that in a graph it is a leaf like any other weight.
    static ggml_tensor * part_of(ggml_context * context, const ggml_tensor * whole, int64_t n0, int64_t n1,
                                 size_t offset) {
        ggml_tensor * part = ggml_new_tensor_2d(context, whole->type, n0, n1);
        part->nb[1] = whole->nb[1];
        part->nb[2] = part->nb[3] = part->nb[1] * static_cast<size_t>(n1);
        auto * address = static_cast<std::byte *>(whole->data) + offset;
        return ggml_backend_tensor_alloc(whole->buffer, part, address) == GGML_STATUS_SUCCESS ? part : nullptr;
    }

    bool slice() {
        size_t n_slices = 0;
        for (const auto & adapter : sources_) {
            n_slices += adapter.second.size();
        }
        ggml_context_ptr context = make_context(2 * n_slices);
        for (const auto & [base, member] : stack_->members) {
            const lora_stack::layout & layout = stack_->layouts[member.of->layout];
            for (const lora_stack::part & part : layout.parts) {
                const auto row = static_cast<size_t>(member.index * layout.width + part.first);
                const auto column = static_cast<size_t>(part.first);
                const ggml_tensor * a = member.of->a;
                const lora_weight made = {
                    part_of(context.get(), a, a->ne[0], part.rank, row * a->nb[1]),
                    part_of(context.get(), member.b, part.rank, base->ne[1], column * member.b->nb[0]), part.scale};
                if (made.a == nullptr || made.b == nullptr) {
                    return false;
                }
                stack_->slices[part.adapter_id][base] = made;
            }
        }
        stack_->contexts.push_back(std::move(context));
        return true;
    }

    // From wherever an adapter's weights are, each device by itself.
    bool copy() {
        std::map<ggml_backend_dev_t, std::vector<std::pair<ggml_tensor *, ggml_tensor *>>> copies;
        for (const auto & [id, weights] : sources_) {
            for (const auto & [base, from] : weights) {
                const lora_weight & to = stack_->slices.at(id).at(base);
                auto & pairs = copies[device_of(ggml_backend_buffer_get_type(to.a->buffer))];
                pairs.insert(pairs.end(), {{from.a, to.a}, {from.b, to.b}});
            }
        }
        return std::all_of(copies.begin(), copies.end(),
                           [](const auto & entry) { return copy_on(entry.first, entry.second); });
    }

    static bool copy_on(ggml_backend_dev_t device, const std::vector<std::pair<ggml_tensor *, ggml_tensor *>> & pairs) {
        const ggml_backend_ptr backend(ggml_backend_dev_init(device, nullptr));
        if (backend && ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU) {
            // Too little work for more threads.
            cpu_function<void(ggml_backend_t, int)>("ggml_backend_set_n_threads")(backend.get(), 1);
        }
        const ggml_context_ptr context =
            make_context(pairs.size(), ggml_graph_overhead_custom(2 * pairs.size(), false));
        ggml_cgraph * graph = ggml_new_graph_custom(context.get(), 2 * pairs.size(), false);
        for (const auto & [from, to] : pairs) {
            ggml_tensor * copied = ggml_cpy(context.get(), from, to);
            if (!backend || ggml_backend_view_init(copied) != GGML_STATUS_SUCCESS ||
                !ggml_backend_supports_op(backend.get(), copied)) {
                return false;
            }
            ggml_build_forward_expand(graph, copied);
        }
        return ggml_backend_graph_compute(backend.get(), graph) == GGML_STATUS_SUCCESS;
    }

    const adapters & sources_;
    std::shared_ptr<lora_stack> stack_ = std::make_shared<lora_stack>();
    std::map<ggml_backend_buffer_type_t, ggml_context_ptr> by_type_;
};

} // namespace

uint64_t lora_stack::bytes() const {
    uint64_t bytes = 0;
    for (const ggml_backend_buffer_ptr & buffer : buffers) {
        bytes += ggml_backend_buffer_get_size(buffer.get());
    }
    return bytes;
}

std::shared_ptr<const lora_stack> lora_stacks::current() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return current_;
}

void lora_stacks::replace(std::shared_ptr<const lora_stack> stack) {
    const std::lock_guard<std::mutex> lock(mutex_);
    current_.swap(stack); // the old one goes after the lock
}

void lora_stacks::add(uint64_t adapter_id, lora_weights & weights, llama_adapter_lora & adapter, float largest) {
    lora_weights moved;
    for (const auto & [base, weight] : weights) {
        if (is_stacked(ggml_backend_buffer_get_type(weight.a->buffer))) {
            moved.emplace(base, weight);
        }
    }
    if (moved.empty() || !(largest <= largest_stacked)) {
        return;
    }
    const std::shared_ptr<const lora_stack> before = current();
    adapters sources = before ? before->slices : adapters();
    sources[adapter_id] = moved;
    std::shared_ptr<const lora_stack> stack = builder(sources).build();
    if (!stack) {
        return;
    }
    for (const auto & entry : moved) {
        weights.erase(entry.first);
    }
    std::vector<ggml_backend_buffer_ptr> & own = adapter.bufs;
    own.erase(std::remove_if(own.begin(), own.end(),
                             [](const ggml_backend_buffer_ptr & buffer) {
                                 return is_stacked(ggml_backend_buffer_get_type(buffer.get()));
                             }),
              own.end());
    replace(std::move(stack));
}

void lora_stacks::remove(uint64_t adapter_id) {
    const std::shared_ptr<const lora_stack> before = current();
    if (!before || before->slices.count(adapter_id) == 0) {
        return;
    }
    adapters sources = before->slices;
    sources.erase(adapter_id);
    if (sources.empty()) {
        replace(nullptr);
    } else if (std::shared_ptr<const lora_stack> stack = builder(sources).build()) {
        replace(std::move(stack));
    }
}

bool is_stacked(const ggml_tensor * base) {
    return base->buffer != nullptr && is_stacked(ggml_backend_buffer_get_type(base->buffer));
}

} // namespace alora::graph
