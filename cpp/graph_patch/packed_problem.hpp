// An attention operation, and how it is cut into blocks of columns and parts of the keys.
#pragma once

#include "packed_product.hpp"

#include "ggml.h"

#include <cstdint>
#include <limits>

#ifdef ALORA_PACKED_ATTENTION

namespace alora::graph {

constexpr int tile_keys = 32;
constexpr float nothing = -std::numeric_limits<float>::infinity(); // of a column that has seen no key

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
    // Few rows wait for memory more than they compute. A row of the cache holds all key heads, so they are read
    // together.
    int64_t blocks_together() const { return row_blocks == 1 ? n_blocks() : 1; }
    int64_t n_pieces() const { return n_blocks() / blocks_together() * n_parts; }
    int64_t width() const { return (block_heads * block_rows + lanes - 1) / lanes * lanes; }
    // What a part leaves for the others: highest scores, sums of weights and weighted values, column by column.
    int64_t left_over() const { return n_parts > 1 ? (value_size + 2) * width() : 0; }
    int64_t block_scratch() const { return (key_size + value_size + 2) * width(); }
    int64_t tile_scratch() const {
        return (tile_keys + 1) * width() + tile_keys * (key_size + value_size + block_rows);
    }
    int64_t scratch() const { return tile_scratch() + blocks_together() * block_scratch(); }
};

} // namespace alora::graph

#endif
