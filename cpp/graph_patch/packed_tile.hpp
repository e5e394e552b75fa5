// A tile of keys and values, unpacked for the blocks that read it.
#pragma once

#include "packed_problem.hpp"

#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "simd-mappings.h"

#include <algorithm>
#include <array>
#include <cstring>

#ifdef ALORA_PACKED_ATTENTION

namespace alora::graph {

enum class Seen { all, some, none };

// Asks for memory that is read soon; past the end it does nothing.
inline void prefetch(const char * from, int64_t size) {
#if defined(__GNUC__)
    constexpr int64_t line = 64;
    constexpr int second_level_cache = 2;
    for (int64_t i = 0; i < size; i += line) {
        __builtin_prefetch(from + i, 0, second_level_cache);
    }
#else
    (void)from;
    (void)size;
#endif
}

class packed_tile {
public:
    packed_tile(const packed_problem & p, int64_t first_row, float * scratch)
        : p_(p), first_row_(first_row), rows_(std::min(p.block_rows, p.n_rows - first_row)) {
        scores_ = scratch;
        factors_ = scores_ + tile_keys * p.width();
        keys_ = factors_ + p.width();
        values_ = keys_ + tile_keys * p.key_size;
        hidden_ = values_ + tile_keys * p.value_size;
    }

    // Moves to the keys from `key` on.
    void move(int64_t key) {
        first_key_ = key;
        key_head_ = -1;
        seen_ = look(key);
        if (seen_ == Seen::some) {
            unpack_mask(key);
        }
    }

    // Unpacks the keys and values of a key head.
    void load(int64_t key_head) {
        if (key_head != key_head_) {
            key_head_ = key_head;
            unpack(keys_, *p_.k, p_.key_size);
            unpack(values_, *p_.v, p_.value_size);
        }
    }

    Seen seen() const { return seen_; }
    const float * keys() const { return keys_; }                              // [tile_keys, key_size]
    const float * values() const { return values_; }                          // [tile_keys, value_size]
    const float * hidden(int64_t key) const { return hidden_ + key * rows_; } // [rows], where some are seen
    float * scores() const { return scores_; }                                // room for [tile_keys, width]
    float * factors() const { return factors_; }                              // room for [width]

private:
    const ggml_fp16_t * mask_of(int64_t row, int64_t key) const {
        return reinterpret_cast<const ggml_fp16_t *>(static_cast<const char *>(p_.mask->data) +
                                                     (first_row_ + row) * static_cast<int64_t>(p_.mask->nb[1])) +
               key;
    }

    Seen look(int64_t key) const {
        constexpr uint64_t four_hidden = 0xFC00FC00FC00FC00; // minus infinity in half precision
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

    // Rows of 16 or 32 bits. Those of the next tile are asked for now, to come while this one is computed with.
    void unpack(float * to, const ggml_tensor & from, int64_t size) const {
        const auto type_size = static_cast<int64_t>(ggml_type_size(from.type));
        const auto row_size = static_cast<int64_t>(from.nb[1]);
        const char * row =
            static_cast<const char *>(from.data) + first_key_ * row_size + key_head_ * static_cast<int64_t>(from.nb[2]);
        for (int64_t i = 0; i < tile_keys; ++i, row += row_size, to += size) {
            prefetch(row + tile_keys * row_size, size * type_size);
            if (from.type == GGML_TYPE_F16) {
                ggml_cpu_fp16_to_fp32(reinterpret_cast<const ggml_fp16_t *>(row), to, size);
            } else {
                std::memcpy(to, row, static_cast<size_t>(size) * sizeof(float));
            }
        }
    }

    void unpack_mask(int64_t key) {
        for (int64_t r = 0; r < rows_; ++r) {
            const ggml_fp16_t * from = mask_of(r, key);
            for (int64_t i = 0; i < tile_keys; ++i) {
                hidden_[i * rows_ + r] = GGML_CPU_FP16_TO_FP32(from[i]);
            }
        }
    }

    const packed_problem & p_;
    int64_t first_row_;
    int64_t rows_;
    int64_t first_key_ = 0;
    int64_t key_head_ = -1;
    Seen seen_ = Seen::none;
    float * scores_ = nullptr;
    float * factors_ = nullptr;
    float * keys_ = nullptr;
    float * values_ = nullptr;
    float * hidden_ = nullptr;
};

} // namespace alora::graph

#endif
