// A block of columns against one tile of keys after another.
#pragma once

#include "packed_tile.hpp"

#include "vec.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#ifdef ALORA_PACKED_ATTENTION

namespace alora::graph {

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
        highest_ = sums_ + p.value_size * width_;
        weights_ = highest_ + width_;
    }

    int64_t first_row() const { return first_row_; }

    void begin() {
        pack_queries();
        std::fill_n(sums_, p_.value_size * width_, 0.0F);
        std::fill_n(highest_, width_, nothing);
        std::fill_n(weights_, width_, 0.0F);
    }

    void read(packed_tile & tile) {
        tile.load(key_head_);
        float * scores = tile.scores();
        std::fill_n(scores, tile_keys * width_, 0.0F);
        multiply(scores, tile.keys(), p_.key_size, 1, queries_, tile_keys, p_.key_size, width_);
        if (tile.seen() == Seen::some) {
            hide(scores, tile);
        }
        weigh(scores, tile.factors());
        multiply(sums_, tile.values(), 1, p_.value_size, scores, p_.value_size, tile_keys, width_);
    }

    void leave(float * to) const {
        std::copy_n(highest_, width_, to);
        std::copy_n(weights_, width_, to + width_);
        std::copy_n(sums_, p_.value_size * width_, to + 2 * width_);
    }

    // What all parts left, as if it had been read in one go; `factors` is room for [width].
    void join(const float * parts, float * factors) {
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
                factors[c] = from[c] == nothing ? 0.0F : std::exp(from[c] - highest_[c]);
                weights_[c] += factors[c] * from[width_ + c];
            }
            for (int64_t d = 0; d < p_.value_size; ++d) {
                for (int64_t c = 0; c < width_; ++c) {
                    sums_[d * width_ + c] += factors[c] * from[(2 + d) * width_ + c];
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

    void hide(float * scores, const packed_tile & tile) const {
        for (int64_t i = 0; i < tile_keys; ++i) {
            const float * hidden = tile.hidden(i);
            for (int64_t h = 0; h < heads_; ++h) {
                float * to = scores + i * width_ + h * rows_;
                for (int64_t r = 0; r < rows_; ++r) {
                    to[r] += hidden[r];
                }
            }
        }
    }

    // Takes note of each column's highest score; what was summed before is put in proportion.
    void raise(const float * scores, float * factors) {
        std::copy_n(highest_, width_, factors);
        for (int64_t i = 0; i < tile_keys; ++i) {
            const float * row = scores + i * width_;
            for (int64_t c = 0; c < width_; ++c) {
                highest_[c] = row[c] > highest_[c] ? row[c] : highest_[c];
            }
        }
        if (std::equal(highest_, highest_ + width_, factors)) {
            return;
        }
        for (int64_t c = 0; c < width_; ++c) {
            // A column that has seen nothing yet has nothing to put in proportion.
            factors[c] = factors[c] == nothing ? 0.0F : std::exp(factors[c] - highest_[c]);
            weights_[c] *= factors[c];
        }
        for (int64_t d = 0; d < p_.value_size; ++d) {
            for (int64_t c = 0; c < width_; ++c) {
                sums_[d * width_ + c] *= factors[c];
            }
        }
    }

    // Scores to weights, each column against the highest score that it has met.
    void weigh(float * scores, float * factors) {
        raise(scores, factors);
        for (int64_t c = 0; c < width_; ++c) {
            factors[c] = highest_[c] == nothing ? 0.0F : highest_[c];
        }
        for (int64_t i = 0; i < tile_keys; ++i) {
            float * row = scores + i * width_;
            for (int64_t c = 0; c < width_; ++c) {
                row[c] -= factors[c];
            }
        }
        ggml_vec_soft_max_f32(static_cast<int>(tile_keys * width_), scores, scores, 0.0F);
        for (int64_t i = 0; i < tile_keys; ++i) {
            const float * row = scores + i * width_;
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
    float * highest_ = nullptr; // [width]
    float * weights_ = nullptr; // [width]
};

} // namespace alora::graph

#endif
