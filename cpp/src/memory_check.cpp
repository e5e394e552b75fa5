#include "memory_check.hpp"

#include "alora/error.hpp"
#include "available_memory.hpp"

#include <iomanip>
#include <limits>
#include <sstream>

namespace alora {

namespace {

constexpr uint32_t least_cells = 256;

std::string in_bytes(uint64_t bytes) {
    constexpr double mib = 1 << 20;
    constexpr double gib = 1 << 30;
    const auto size = static_cast<double>(bytes);
    std::ostringstream text;
    text << std::fixed << std::setprecision(1) << (size < gib ? size / mib : size / gib)
         << (size < gib ? " MiB (" : " GiB (") << bytes << " bytes)";
    return text.str();
}

// A device that does not tell how much memory it has is never said to have too little.
uint64_t available_on(ggml_backend_dev_t device) {
    if (device == nullptr) {
        return available_memory();
    }
    size_t free = 0;
    size_t total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    return total == 0 ? std::numeric_limits<uint64_t>::max() : free;
}

} // namespace

std::string shortage(const graph::memory_need & need) {
    for (const auto & [device, needed] : need) {
        const uint64_t available = available_on(device);
        if (needed > available) {
            const std::string where = device == nullptr ? "" : std::string(" on ") + ggml_backend_dev_name(device);
            return "it needs at least " + in_bytes(needed) + " of memory" + where + ", available are " +
                   in_bytes(available);
        }
    }
    return "";
}

void check_room_for_model(const std::string & path, const llama_model & model, graph::memory_need weights) {
    llama_context_params least = llama_context_default_params();
    least.n_ctx = least_cells;
    least.n_ubatch = 1;
    least.n_outputs_max = 1;
    least.n_seq_max = 1;
    for (const auto & [device, bytes] : graph::context_need(model, least)) {
        weights[device] += bytes;
    }
    if (const std::string short_of = shortage(weights); !short_of.empty()) {
        throw ModelLoadError(path + ": " + short_of +
                             "; close other programs, or take a smaller model or a smaller quantization of it");
    }
}

void check_room_for_context(const llama_model & model, const llama_context_params & params) {
    if (const std::string short_of = shortage(graph::context_need(model, params)); !short_of.empty()) {
        throw BackendError("a context of " + std::to_string(params.n_ctx) + " cells does not fit: " + short_of +
                           "; ask for fewer cells (n_ctx), smaller ones (kv_type) or fewer rows at a time (n_ubatch)");
    }
}

} // namespace alora
