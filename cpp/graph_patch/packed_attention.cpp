#include "packed_attention.h"

#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "simd-mappings.h"
#include "vec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(GGML_SIMD) && !defined(__ARM_FEATURE_SVE) && !defined(__riscv_v_intrinsic)

namespace {

using vector = GGML_F32_VEC;

constexpr int lanes = GGML_F32_EPR;
constexpr int tile_keys = 32;
constexpr int most_columns = 64;
// Enough pieces of work that no thread waits long for the last one.
constexpr int pieces_per_thread = 4;
constexpr int fewest_keys_apart = 256;
constexpr uint64_t four_hidden = 0xFC00FC00FC00FC00; // minus infinity in half precision

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int strip = 4; // of 32 registers, 16 hold sums
#else
constexpr int strip = 2;
#endif

// Adds to sums [M, N lanes] the products of A and B over `depth`; A(m, k) is a[m * step_m + k * step_k], and B's rows
// are `width` apart, as are those of the sums.
template <int M, int N>
void multiply_block(float * sums, const float * a, int64_t step_m, int64_t step_k, const float * b, int64_t depth,
                    int64_t width) {
    vector held[M][N];
    for (int m = 0; m < M; ++m) {
        for (int n = 0; n < N; ++n) {
            held[m][n] = GGML_F32_VEC_LOAD(sums + m * width + n * lanes);
        }
    }
    for (int64_t k = 0; k < depth; ++k) {
        vector row[N];
        for (int n = 0; n < N; ++n) {
            row[n] = GGML_F32_VEC_LOAD(b + k * width + n * lanes);
        }
        for (int m = 0; m < M; ++m) {
            const vector factor = GGML_F32_VEC_SET1(a[m * step_m + k * step_k]);
            for (int n = 0; n < N; ++n) {
                held[m][n] = GGML_F32_VEC_FMA(held[m][n], row[n], factor);
            }
        }
    }
    for (int m = 0; m < M; ++m) {
        for (int n = 0; n < N; ++n) {
            GGML_F32_VEC_STORE(sums + m * width + n * lanes, held[m][n]);
        }
    }
}

template <int M, int N>
void multiply_strip(float * sums, const float * a, int64_t step_m, int64_t step_k, const float * b, int64_t rows,
                    int64_t depth, int64_t width) {
    for (int64_t m = 0; m < rows; m += M) {
        multiply_block<M, N>(sums + m * width, a + m * step_m, step_m, step_k, b, depth, width);
    }
}

// sums [rows, width] += A [rows, depth] * b [depth, width]; rows are a multiple of 8, the width one of `lanes`.
void multiply(float * sums, const float * a, int64_t step_m, int64_t step_k, const float * b, int64_t rows,
              int64_t depth, int64_t width) {
    for (int64_t done = 0; done < width;) {
        const int64_t left = std::min<int64_t>((width - done) / lanes, strip);
        float * to = sums + done;
        const float * from = b + done;
        if (left >= 4) {
            multiply_strip<4, 4>(to, a, step_m, step_k, from, rows, depth, width);
        } else if (left == 3) {
            multiply_strip<4, 3>(to, a, step_m, step_k, from, rows, depth, width);
        } else if (left == 2) {
            multiply_strip<strip == 4 ? 8 : 4, 2>(to, a, step_m, step_k, from, rows, depth, width);
        } else {
            multiply_strip<8, 1>(to, a, step_m, step_k, from, rows, depth, width);
        }
        done += left * lanes;
    }
}

// An operation, cut into blocks of columns: some query heads of one key head, by some rows of the batch.
struct Problem {
    const ggml_tensor * q;
    const ggml_tensor * k;
    const ggml_tensor * v;
    const ggml_tensor * mask;
    ggml_tensor * out;
    float scale;
    int64_t key_size;
    int64_t value_size;
    int64_t n_keys;
    int64_t n_rows;
    int64_t n_heads;
    int64_t n_key_heads;
    int64_t block_heads; // query heads of a block, all with the same keys
    int64_t block_rows;
    int64_t head_blocks; // of one key head
    int64_t row_blocks;
    int64_t n_parts; // of the keys, for different threads

    int64_t group() const { return n_heads / n_key_heads; }
    int64_t n_blocks() const { return n_key_heads * head_blocks * row_blocks; }
    int64_t width() const { return (block_heads * block_rows + lanes - 1) / lanes * lanes; }
    // What a part leaves for the others: highest scores, sums of weights and weighted values, column by column.
    int64_t left_over() const { return n_parts > 1 ? (value_size + 2) * width() : 0; }
    int64_t scratch() const {
        return (key_size + value_size + tile_keys + 3) * width() + tile_keys * (key_size + value_size + block_rows);
    }
};

Problem problem_of(const ggml_tensor * operation, int n_threads) {
    Problem p = {};
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
    const int64_t wanted = pieces_per_thread * static_cast<int64_t>(n_threads) / p.n_blocks();
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
    const bool sizes = v->ne[0] % 8 == 0 && k->ne[1] % tile_keys == 0 && q->ne[2] % k->ne[2] == 0;
    const bool masked = mask != nullptr && mask->type == GGML_TYPE_F16 && mask->ne[2] == 1 && mask->ne[3] == 1 &&
                        mask->nb[1] % sizeof(uint64_t) == 0;
    return plain && types && one_stream && sizes && masked;
}

enum class Seen { all, some, none };

// One block of columns against one part of the keys.
class Block {
public:
    Block(const Problem & p, int64_t number, float * scratch) : p_(p), width_(p.width()) {
        first_row_ = number % p.row_blocks * p.block_rows;
        const int64_t head_block = number / p.row_blocks;
        key_head_ = head_block / p.head_blocks;
        const int64_t within = head_block % p.head_blocks * p.block_heads;
        first_head_ = key_head_ * p.group() + within;
        rows_ = std::min(p.block_rows, p.n_rows - first_row_);
        heads_ = std::min(p.block_heads, p.group() - within);
        queries_ = scratch;
        sums_ = queries_ + p.key_size * width_;
        scores_ = sums_ + p.value_size * width_;
        highest_ = scores_ + tile_keys * width_;
        weights_ = highest_ + width_;
        factors_ = weights_ + width_;
        keys_ = factors_ + width_;
        values_ = keys_ + tile_keys * p.key_size;
        hidden_ = values_ + tile_keys * p.value_size;
    }

    void read(int64_t part) {
        pack_queries();
        std::fill_n(sums_, p_.value_size * width_, 0.0F);
        std::fill_n(highest_, width_, -std::numeric_limits<float>::infinity());
        std::fill_n(weights_, width_, 0.0F);
        const int64_t tiles = p_.n_keys / tile_keys;
        for (int64_t tile = part * tiles / p_.n_parts; tile < (part + 1) * tiles / p_.n_parts; ++tile) {
            read_tile(tile * tile_keys);
        }
    }

    void leave(float * to) const {
        std::copy_n(highest_, width_, to);
        std::copy_n(weights_, width_, to + width_);
        std::copy_n(sums_, p_.value_size * width_, to + 2 * width_);
    }

    // What all parts left, as if it had been read in one go.
    void join(const float * parts) {
        std::copy_n(parts, width_, highest_);
        for (int64_t part = 1; part < p_.n_parts; ++part) {
            const float * from = parts + part * p_.left_over();
            for (int64_t c = 0; c < width_; ++c) {
                highest_[c] = std::max(highest_[c], from[c]);
            }
        }
        std::fill_n(sums_, p_.value_size * width_, 0.0F);
        std::fill_n(weights_, width_, 0.0F);
        for (int64_t part = 0; part < p_.n_parts; ++part) {
            const float * from = parts + part * p_.left_over();
            for (int64_t c = 0; c < width_; ++c) {
                factors_[c] = from[c] == -std::numeric_limits<float>::infinity() ? 0.0F : std::exp(from[c] - highest_[c]);
                weights_[c] += factors_[c] * from[width_ + c];
            }
            for (int64_t d = 0; d < p_.value_size; ++d) {
                for (int64_t c = 0; c < width_; ++c) {
                    sums_[d * width_ + c] += factors_[c] * from[(2 + d) * width_ + c];
                }
            }
        }
    }

    void write() const {
        for (int64_t h = 0; h < heads_; ++h) {
            for (int64_t r = 0; r < rows_; ++r) {
                const int64_t c = h * rows_ + r;
                const float share = weights_[c] == 0.0F ? 0.0F : 1.0F / weights_[c];
                auto * to = reinterpret_cast<float *>(static_cast<char *>(p_.out->data) +
                                                      (first_head_ + h) * static_cast<int64_t>(p_.out->nb[1]) +
                                                      (first_row_ + r) * static_cast<int64_t>(p_.out->nb[2]));
                for (int64_t d = 0; d < p_.value_size; ++d) {
                    to[d] = sums_[d * width_ + c] * share;
                }
            }
        }
    }

private:
    // [key_size, width], scaled; a column for each row of each head, and zeros up to the width.
    void pack_queries() {
        std::fill_n(queries_, p_.key_size * width_, 0.0F);
        for (int64_t h = 0; h < heads_; ++h) {
            for (int64_t r = 0; r < rows_; ++r) {
                const auto * from = reinterpret_cast<const float *>(
                    static_cast<const char *>(p_.q->data) + (first_row_ + r) * static_cast<int64_t>(p_.q->nb[1]) +
                    (first_head_ + h) * static_cast<int64_t>(p_.q->nb[2]));
                for (int64_t d = 0; d < p_.key_size; ++d) {
                    queries_[d * width_ + h * rows_ + r] = from[d] * p_.scale;
                }
            }
        }
    }

    const ggml_fp16_t * mask_of(int64_t row, int64_t key) const {
        return reinterpret_cast<const ggml_fp16_t *>(static_cast<const char *>(p_.mask->data) +
                                                     (first_row_ + row) * static_cast<int64_t>(p_.mask->nb[1])) +
               key;
    }

    Seen seen(int64_t key) const {
        bool all = true;
        bool none = true;
        for (int64_t r = 0; r < rows_ && (all || none); ++r) {
            std::array<uint64_t, tile_keys / 4> fours = {};
            std::memcpy(fours.data(), mask_of(r, key), sizeof(fours));
            for (const uint64_t four : fours) {
                all = all && four == 0;
                none = none && four == four_hidden;
            }
        }
        return all ? Seen::all : none ? Seen::none : Seen::some;
    }

    // Rows of `size` values from a tensor of 16 or 32 bits.
    void unpack(float * to, const ggml_tensor & from, int64_t key, int64_t size) const {
        for (int64_t i = 0; i < tile_keys; ++i) {
            const char * row = static_cast<const char *>(from.data) + (key + i) * static_cast<int64_t>(from.nb[1]) +
                               key_head_ * static_cast<int64_t>(from.nb[2]);
            if (from.type == GGML_TYPE_F16) {
                ggml_cpu_fp16_to_fp32(reinterpret_cast<const ggml_fp16_t *>(row), to + i * size, size);
            } else {
                std::memcpy(to + i * size, row, static_cast<size_t>(size) * sizeof(float));
            }
        }
    }

    void hide(int64_t key) {
        for (int64_t r = 0; r < rows_; ++r) {
            const ggml_fp16_t * from = mask_of(r, key);
            for (int64_t i = 0; i < tile_keys; ++i) {
                hidden_[i * rows_ + r] = GGML_CPU_FP16_TO_FP32(from[i]);
            }
        }
        for (int64_t i = 0; i < tile_keys; ++i) {
            for (int64_t h = 0; h < heads_; ++h) {
                float * to = scores_ + i * width_ + h * rows_;
                for (int64_t r = 0; r < rows_; ++r) {
                    to[r] += hidden_[i * rows_ + r];
                }
            }
        }
    }

    void read_tile(int64_t key) {
        const Seen which = seen(key);
        if (which == Seen::none) {
            return;
        }
        unpack(keys_, *p_.k, key, p_.key_size);
        std::fill_n(scores_, tile_keys * width_, 0.0F);
        multiply(scores_, keys_, p_.key_size, 1, queries_, tile_keys, p_.key_size, width_);
        if (which == Seen::some) {
            hide(key);
        }
        weigh();
        unpack(values_, *p_.v, key, p_.value_size);
        multiply(sums_, values_, 1, p_.value_size, scores_, p_.value_size, tile_keys, width_);
    }

    // Scores to weights, each column against the highest it has met; what was summed before is put in proportion.
    void weigh() {
        std::copy_n(highest_, width_, factors_);
        for (int64_t i = 0; i < tile_keys; ++i) {
            const float * row = scores_ + i * width_;
            for (int64_t c = 0; c < width_; ++c) {
                highest_[c] = row[c] > highest_[c] ? row[c] : highest_[c];
            }
        }
        bool higher = false;
        for (int64_t c = 0; c < width_; ++c) {
            higher = higher || highest_[c] > factors_[c];
        }
        if (higher) {
            for (int64_t c = 0; c < width_; ++c) {
                // A column that has seen nothing yet has nothing to put in proportion.
                factors_[c] = factors_[c] == -std::numeric_limits<float>::infinity() ? 0.0F : std::exp(factors_[c] - highest_[c]);
                weights_[c] *= factors_[c];
            }
            for (int64_t d = 0; d < p_.value_size; ++d) {
                for (int64_t c = 0; c < width_; ++c) {
                    sums_[d * width_ + c] *= factors_[c];
                }
            }
        }
        for (int64_t c = 0; c < width_; ++c) {
            factors_[c] = highest_[c] == -std::numeric_limits<float>::infinity() ? 0.0F : highest_[c];
        }
        for (int64_t i = 0; i < tile_keys; ++i) {
            float * row = scores_ + i * width_;
            for (int64_t c = 0; c < width_; ++c) {
                row[c] -= factors_[c];
            }
        }
        ggml_vec_soft_max_f32(static_cast<int>(tile_keys * width_), scores_, scores_, 0.0F);
        for (int64_t i = 0; i < tile_keys; ++i) {
            const float * row = scores_ + i * width_;
            for (int64_t c = 0; c < width_; ++c) {
                weights_[c] += row[c];
            }
        }
    }

    const Problem & p_;
    int64_t width_;
    int64_t key_head_ = 0;
    int64_t first_head_ = 0;
    int64_t first_row_ = 0;
    int64_t heads_ = 0;
    int64_t rows_ = 0;
    float * queries_ = nullptr; // [key_size, width]
    float * sums_ = nullptr;    // [value_size, width]
    float * scores_ = nullptr;  // [tile_keys, width]
    float * highest_ = nullptr; // the next three: [width]
    float * weights_ = nullptr;
    float * factors_ = nullptr;
    float * keys_ = nullptr;   // [tile_keys, key_size]
    float * values_ = nullptr; // [tile_keys, value_size]
    float * hidden_ = nullptr; // [tile_keys, rows]
};

} // namespace

size_t alora_packed_attention_work(const ggml_tensor * operation, int n_threads) {
    if (!known(operation)) {
        return 0;
    }
    const Problem p = problem_of(operation, n_threads);
    return sizeof(float) * static_cast<size_t>(p.scratch() * n_threads + p.n_blocks() * p.n_parts * p.left_over());
}

bool alora_packed_attention(const ggml_compute_params * params, ggml_tensor * operation) {
    if (params->use_ref || !known(operation)) {
        return false;
    }
    Problem p = problem_of(operation, params->nth);
    p.out = operation;
    float * scratch = static_cast<float *>(params->wdata) + params->ith * p.scratch();
    float * parts = static_cast<float *>(params->wdata) + params->nth * p.scratch();
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    const int64_t pieces = p.n_blocks() * p.n_parts;
    for (int64_t piece = params->ith; piece < pieces; piece = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        Block block(p, piece / p.n_parts, scratch);
        block.read(piece % p.n_parts);
        if (p.n_parts == 1) {
            block.write();
        } else {
            block.leave(parts + piece * p.left_over());
        }
    }
    if (p.n_parts > 1) {
        ggml_barrier(params->threadpool);
        for (int64_t number = params->ith; number < p.n_blocks(); number += params->nth) {
            Block block(p, number, scratch);
            block.join(parts + number * p.n_parts * p.left_over());
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
