// Attention cut into blocks of columns, and one such block against a part of the keys.
#pragma once

#include "packed_product.hpp"

#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "vec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#ifdef ALORA_PACKED_ATTENTION

namespace alora::graph {

constexpr int tile_keys = 32;
constexpr float nothing = -std::numeric_limits<float>::infinity(); // of a column that has seen no key
constexpr uint64_t four_hidden = 0xFC00FC00FC00FC00;               // minus infinity in half precision

// An operation, cut into blocks of columns: some query heads of one key head, by some rows of the batch.
struct packed_problem {
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

enum class Seen { all, some, none };

// One block of columns against one part of the keys.
class packed_block {
public:
    packed_block(const packed_problem & p, int64_t number, float * scratch) : p_(p), width_(p.width()) {
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
        std::fill_n(highest_, width_, nothing);
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
                factors_[c] = from[c] == nothing ? 0.0F : std::exp(from[c] - highest_[c]);
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
        if (all) {
            return Seen::all;
        }
        return none ? Seen::none : Seen::some;
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

    // Takes note of each column's highest score; what was summed before is put in proportion.
    void raise() {
        std::copy_n(highest_, width_, factors_);
        for (int64_t i = 0; i < tile_keys; ++i) {
            const float * row = scores_ + i * width_;
            for (int64_t c = 0; c < width_; ++c) {
                highest_[c] = row[c] > highest_[c] ? row[c] : highest_[c];
            }
        }
        if (std::equal(highest_, highest_ + width_, factors_)) {
            return;
        }
        for (int64_t c = 0; c < width_; ++c) {
            // A column that has seen nothing yet has nothing to put in proportion.
            factors_[c] = factors_[c] == nothing ? 0.0F : std::exp(factors_[c] - highest_[c]);
            weights_[c] *= factors_[c];
        }
        for (int64_t d = 0; d < p_.value_size; ++d) {
            for (int64_t c = 0; c < width_; ++c) {
                sums_[d * width_ + c] *= factors_[c];
            }
        }
    }

    // Scores to weights, each column against the highest score that it has met.
    void weigh() {
        raise();
        for (int64_t c = 0; c < width_; ++c) {
            factors_[c] = highest_[c] == nothing ? 0.0F : highest_[c];
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

    const packed_problem & p_;
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

} // namespace alora::graph

#endif
