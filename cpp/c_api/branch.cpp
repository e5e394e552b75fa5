#include "alora/branch.hpp"

#include "handles.hpp"
#include "memory.hpp"
#include "structures.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

using namespace alora::c;

namespace {

alora::Branch & of(const alora_branch * branch) {
    return *given(branch, "branch").branch;
}

} // namespace

void alora_branch_free(alora_branch * branch) {
    delete branch;
}

alora_status alora_branch_get_info(const alora_branch * branch, alora_branch_info * info, size_t info_size,
                                   alora_error ** error) {
    return call(error, [&] {
        const alora::Branch & from = of(branch);
        alora_branch_info known = {};
        known.activation_position = ALORA_END;
        known.closed = from.closed();
        if (!known.closed) {
            known.length = from.length();
            known.n_queued = from.n_queued();
            known.activation_position = from.activation_position().value_or(ALORA_END);
        }
        write_info(known, info, info_size);
    });
}

alora_status alora_branch_append(alora_branch * branch, const alora_token * tokens, size_t n_tokens, int32_t n_logits,
                                 alora_error ** error) {
    return call(error, [&] { of(branch).append(tokens_of(tokens, n_tokens), n_logits); });
}

alora_status alora_branch_fork(const alora_branch * branch, int32_t at, alora_branch ** fork, alora_error ** error) {
    return call(error, [&] {
        cleared(fork, "fork");
        auto handle = std::make_unique<alora_branch>();
        handle->branch = of(branch).fork(at == ALORA_END ? std::nullopt : std::optional<int>(at));
        *fork = handle.release();
    });
}

alora_status alora_branch_activate(alora_branch * branch, const alora_adapter * adapter, float scale,
                                   alora_error ** error) {
    return call(error, [&] { of(branch).activate(given(adapter, "adapter").adapter, scale); });
}

alora_status alora_branch_adapter(const alora_branch * branch, alora_adapter ** adapter, alora_error ** error) {
    return call(error, [&] {
        cleared(adapter, "adapter");
        if (auto governing = of(branch).adapter()) {
            *adapter = adapter_handle(std::move(governing)).release();
        }
    });
}

alora_status alora_branch_logits(const alora_branch * branch, int32_t rows, float * logits, size_t n_logits,
                                 alora_error ** error) {
    return call(error, [&] {
        given(logits, "logits");
        const std::vector<float> values = of(branch).logits(rows);
        if (n_logits < values.size()) {
            throw alora::ArgumentError("there is room for " + std::to_string(n_logits) + " logits, expected " +
                                       std::to_string(values.size()) + ": rows times the size of the vocabulary");
        }
        std::copy(values.begin(), values.end(), logits);
    });
}

alora_status alora_branch_tokens(const alora_branch * branch, alora_token ** tokens, size_t * n_tokens,
                                 alora_error ** error) {
    return call(error, [&] {
        cleared(tokens, "tokens");
        cleared(n_tokens, "n_tokens");
        hand_out(of(branch).tokens(), tokens, *n_tokens);
    });
}

alora_status alora_branch_drop(alora_branch * branch, int32_t begin, int32_t end, alora_error ** error) {
    return call(error, [&] { of(branch).drop(begin, end); });
}

alora_status alora_branch_save(const alora_branch * branch, void ** bytes, size_t * size, alora_error ** error) {
    return call(error, [&] {
        cleared(bytes, "bytes");
        cleared(size, "size");
        hand_out(of(branch).save(), bytes, *size);
    });
}

alora_status alora_branch_kv_bytes(const alora_branch * branch, void ** bytes, size_t * size, alora_error ** error) {
    return call(error, [&] {
        cleared(bytes, "bytes");
        cleared(size, "size");
        hand_out(of(branch).kv_bytes(), bytes, *size);
    });
}

alora_status alora_branch_close(alora_branch * branch, alora_error ** error) {
    return call(error, [&] { of(branch).close(); });
}
