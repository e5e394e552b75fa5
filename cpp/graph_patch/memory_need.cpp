#include "memory_need.h"

#include "llama-model-loader.h"
#include "llama-model.h"

#include <algorithm>
#include <utility>

namespace alora::graph {

namespace {

thread_local weights_check::function current_check;

ggml_backend_dev_t memory_of(ggml_backend_dev_t device) {
    return device == nullptr || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU ? nullptr : device;
}

// Whether the tensors of this kind of buffer are read where they lie in the mapped file, as load_tensors decides it.
bool stays_mapped(ggml_backend_buffer_type_t buffers, bool lazy, bool use_mmap) {
    ggml_backend_dev_t device = ggml_backend_buft_get_device(buffers);
    if (device == nullptr) {
        device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    }
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(device, &props);
    return (use_mmap || lazy) && props.caps.buffer_from_host_ptr && buffers == ggml_backend_dev_buffer_type(device);
}

// Pages of a file are dropped and read again as the system likes: no more of them than one weight must be there at
// once.
memory_need weights_need(const llama_model_loader & loader) {
    memory_need need;
    uint64_t largest_mapped = 0;
    for (const auto & [key, tensors] : loader.ctx_map) {
        if (stays_mapped(key.buft, key.lazy, loader.use_mmap)) {
            largest_mapped = std::max<uint64_t>(largest_mapped, ggml_get_max_tensor_size(tensors.get()));
            continue;
        }
        const bool on_host = ggml_backend_buft_is_host(key.buft);
        need[on_host ? nullptr : memory_of(ggml_backend_buft_get_device(key.buft))] +=
            ggml_backend_alloc_ctx_tensors_from_buft_size(tensors.get(), key.buft);
    }
    need[nullptr] += largest_mapped;
    return need;
}

} // namespace

memory_need context_need(const llama_model & model, const llama_context_params & params) {
    const llama_hparams & hparams = model.hparams;
    memory_need need;
    uint64_t n_heads = 0;
    uint64_t n_ff = 0;
    const uint64_t n_cells = params.n_ctx;
    for (uint32_t layer = 0; layer < hparams.n_layer(); ++layer) {
        uint64_t & bytes = need[memory_of(model.dev_layer(static_cast<int>(layer)))];
        if (hparams.is_recr(layer)) {
            bytes += sizeof(float) * params.n_seq_max * (hparams.n_embd_r() + hparams.n_embd_s());
        } else if (hparams.has_kv(layer)) {
            const uint64_t values = hparams.is_mla() ? 0 : ggml_row_size(params.type_v, hparams.n_embd_v_gqa(layer));
            bytes += n_cells * (ggml_row_size(params.type_k, hparams.n_embd_k_gqa(layer)) + values);
            n_heads = std::max<uint64_t>(n_heads, hparams.n_head(layer));
        }
        n_ff = std::max<uint64_t>(n_ff, hparams.n_ff(layer));
    }
    // The mask says which cells a row sees; without flash attention there is a weight for each cell under each head.
    const bool scores = params.flash_attn_type == LLAMA_FLASH_ATTN_TYPE_DISABLED;
    const uint64_t seen = n_cells * (scores ? sizeof(float) * (1 + n_heads) : sizeof(ggml_fp16_t));
    const uint64_t widest = sizeof(float) * (n_ff + hparams.n_embd);
    const uint64_t logits = sizeof(float) * params.n_outputs_max * model.vocab.n_tokens();
    need[memory_of(model.dev_output())] += params.n_ubatch * (seen + widest) + logits;
    need[nullptr] += logits; // llama.cpp keeps them beside the compute buffer
    return need;
}

weights_check::weights_check(function check) {
    current_check = std::move(check);
}

weights_check::~weights_check() {
    current_check = nullptr;
}

void check_weights(const llama_model & model, const llama_model_loader & loader) {
    if (current_check) {
        current_check(model, weights_need(loader));
    }
}

} // namespace alora::graph
