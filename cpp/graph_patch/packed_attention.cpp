#include "packed_attention.h"

#include "packed_block.hpp"

#ifdef ALORA_PACKED_ATTENTION

namespace {

using alora::graph::packed_block;
using alora::graph::packed_problem;
using alora::graph::packed_tile;
using alora::graph::Seen;

constexpr int most_columns = 64;
// Enough pieces of work that no thread waits long for the last one.
constexpr int pieces_per_thread = 4;
constexpr int fewest_keys_apart = 256;

packed_problem problem_of(const ggml_tensor * operation, int n_threads) {
    packed_problem p = {};
    p.q = operation->src[0];
    p.k = operation->src[1];
    p.v = operation->src[2];
    p.mask = operation->src[3];
    std::memcpy(&p.scale, operation->op_params, sizeof(float));
    p.key_size = p.k->ne[0];
    p.value_size = p.v->ne[0];
    p.n_keys = p.k->ne[1];
    p.n_rows = p.q->ne[1];
    p.n_heads = p.q->ne[2];
    p.n_key_heads = p.k->ne[2];
    p.head_blocks = (p.group() + most_columns - 1) / most_columns;
    p.block_heads = (p.group() + p.head_blocks - 1) / p.head_blocks;
    p.block_rows = std::min(p.n_rows, std::max<int64_t>(1, most_columns / p.block_heads));
    p.row_blocks = (p.n_rows + p.block_rows - 1) / p.block_rows;
    p.n_parts = 1;
    const int64_t wanted = pieces_per_thread * static_cast<int64_t>(n_threads) / p.n_pieces();
    p.n_parts = n_threads == 1 ? 1 : std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, p.n_keys / fewest_keys_apart));
    return p;
}

bool known(const ggml_tensor * operation) {
    const ggml_tensor * q = operation->src[0];
    const ggml_tensor * k = operation->src[1];
    const ggml_tensor * v = operation->src[2];
    const ggml_tensor * mask = operation->src[3];
    float max_bias = 0.0F;
    float cap = 0.0F;
    std::memcpy(&max_bias, operation->op_params + 1, sizeof(float));
    std::memcpy(&cap, operation->op_params + 2, sizeof(float));
    const bool plain = max_bias == 0.0F && cap == 0.0F && operation->src[4] == nullptr;
    const bool types = q->type == GGML_TYPE_F32 && k->type == v->type &&
                       (k->type == GGML_TYPE_F16 || k->type == GGML_TYPE_F32) && q->nb[0] == sizeof(float) &&
                       k->nb[0] == ggml_type_size(k->type) && v->nb[0] == ggml_type_size(v->type);
    const bool one_stream = q->ne[3] == 1 && k->ne[3] == 1 && v->ne[3] == 1 && k->ne[2] == v->ne[2];
    const bool sizes = v->ne[0] % 8 == 0 && k->ne[1] % alora::graph::tile_keys == 0 && q->ne[2] % k->ne[2] == 0;
    const bool masked = mask != nullptr && mask->type == GGML_TYPE_F16 && mask->ne[2] == 1 && mask->ne[3] == 1 &&
                        mask->nb[1] % sizeof(uint64_t) == 0;
    return plain && types && one_stream && sizes && masked;
}

// Some blocks against one part of the keys, tile by tile.
void read(const packed_problem & p, int64_t piece, float * scratch, float * parts) {
    const int64_t part = piece % p.n_parts;
    const int64_t first = piece / p.n_parts * p.blocks_together();
    const auto block = [&](int64_t number) {
        return packed_block(p, number, scratch + p.tile_scratch() + (number - first) * p.block_scratch());
    };
    const int64_t end = first + p.blocks_together();
    for (int64_t number = first; number < end; ++number) {
        block(number).begin();
    }
    packed_tile tile(p, block(first).first_row(), scratch);
    const int64_t n_tiles = p.n_keys / alora::graph::tile_keys;
    for (int64_t i = part * n_tiles / p.n_parts; i < (part + 1) * n_tiles / p.n_parts; ++i) {
        tile.move(i * alora::graph::tile_keys);
        for (int64_t number = first; number < end && tile.seen() != Seen::none; ++number) {
            block(number).read(tile);
        }
    }
    for (int64_t number = first; number < end; ++number) {
        if (p.n_parts == 1) {
            block(number).write();
        } else {
            block(number).leave(parts + (number * p.n_parts + part) * p.left_over());
        }
    }
}

} // namespace

size_t alora_packed_attention_work(const ggml_tensor * operation, int n_threads) {
    if (!known(operation)) {
        return 0;
    }
    const packed_problem p = problem_of(operation, n_threads);
    return sizeof(float) * static_cast<size_t>(p.scratch() * n_threads + p.n_blocks() * p.n_parts * p.left_over());
}

bool alora_packed_attention(const ggml_compute_params * params, ggml_tensor * operation) {
    if (params->use_ref || !known(operation)) {
        return false;
    }
    packed_problem p = problem_of(operation, params->nth);
    p.out = operation;
    float * scratch = static_cast<float *>(params->wdata) + params->ith * p.scratch();
    float * parts = static_cast<float *>(params->wdata) + params->nth * p.scratch();
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    for (int64_t piece = params->ith; piece < p.n_pieces(); piece = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        read(p, piece, scratch, parts);
    }
    if (p.n_parts > 1) {
        ggml_barrier(params->threadpool);
        for (int64_t number = params->ith; number < p.n_blocks(); number += params->nth) {
            packed_block block(p, number, scratch + p.width());
            block.join(parts + number * p.n_parts * p.left_over(), scratch);
            block.write();
        }
    }
    return true;
}

#else

size_t alora_packed_attention_work(const ggml_tensor *, int) {
    return 0;
}

bool alora_packed_attention(const ggml_compute_params *, ggml_tensor *) {
    return false;
}

#endif
