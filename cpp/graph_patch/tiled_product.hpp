// Rows of a batch times weights that lie in tiles, on the CPU.
//
// A vector of weights is unpacked once and multiplied with up to eight rows in turn, while what comes next is on its
// way from memory. So a check's few rows cost little more than reading the weights; many are faster, too.
#pragma once

#include "tiled_weights.hpp"

#ifdef ALORA_TILES

#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <cstdint>

namespace alora::graph {

template <typename Tile>
struct tiled_product {
    explicit tiled_product(const ggml_tensor * operation)
        : n_rows(ggml_nrows(operation)), n_blocks(operation->src[0]->ne[0] / ggml_blck_size(Tile::type)),
          n_outputs(operation->ne[0]), weights(static_cast<const char *>(operation->src[0]->data)),
          out(static_cast<float *>(operation->data)) {}

    size_t row_bytes() const { return static_cast<size_t>(n_rows * n_blocks) * sizeof(typename Tile::row_block); }

    int64_t n_rows;
    int64_t n_blocks; // of each row
    int64_t n_outputs;
    const char * weights;
    float * out; // [n_rows, n_outputs]
};

// Rounds this thread's share of the rows' blocks to 8 bits.
template <typename Tile>
void round_rows(const ggml_compute_params * params, const tiled_product<Tile> & p, const ggml_tensor & rows) {
    const auto round = ggml_get_type_traits_cpu(Tile::row_type)->from_float;
    const int64_t size = ggml_blck_size(Tile::row_type);
    const int64_t all = p.n_rows * p.n_blocks;
    auto * to = static_cast<typename Tile::row_block *>(params->wdata);
    for (int64_t i = params->ith * all / params->nth; i < (params->ith + 1) * all / params->nth; ++i) {
        const int64_t row = i / p.n_blocks;
        const int64_t i1 = row % rows.ne[1];
        const int64_t i2 = row / rows.ne[1] % rows.ne[2];
        const int64_t i3 = row / (rows.ne[1] * rows.ne[2]);
        const char * from = static_cast<const char *>(rows.data) + i1 * static_cast<int64_t>(rows.nb[1]) +
                            i2 * static_cast<int64_t>(rows.nb[2]) + i3 * static_cast<int64_t>(rows.nb[3]);
        round(reinterpret_cast<const float *>(from) + i % p.n_blocks * size, to + i, size);
        Tile::prepare(to[i]);
    }
}

template <typename Tile, int Rows>
void multiply_tile(const tiled_product<Tile> & p, const typename Tile::row_block * rows, int64_t first_row,
                   int64_t tile) {
    floats sums[Rows]; // NOLINT(modernize-avoid-c-arrays): registers, and vectors are no template arguments
    std::fill_n(sums, Rows, no_floats());
    const char * weights = p.weights + tile * p.n_blocks * Tile::bytes;
    for (int64_t i = 0; i < p.n_blocks; ++i) {
        Tile::template add<Rows>(sums, rows + first_row * p.n_blocks + i, p.n_blocks, weights + i * Tile::bytes);
    }
    for (int64_t m = 0; m < Rows; ++m) {
        store(p.out + (first_row + m) * p.n_outputs + tile * tile_outputs, sums[m]);
    }
}

// Code of its own for each number of rows, so that sums stay in registers.
template <typename Tile, int Rows = most_rows_at_once>
void multiply_rows(const tiled_product<Tile> & p, const typename Tile::row_block * rows, int64_t first_row,
                   int64_t tile) {
    if constexpr (Rows > 1) {
        if (p.n_rows - first_row < Rows) {
            multiply_rows<Tile, Rows - 1>(p, rows, first_row, tile);
            return;
        }
    }
    multiply_tile<Tile, Rows>(p, rows, first_row, tile);
}

// Threads take some tiles at a time, as processors may have slow cores beside fast ones. A tile comes from memory once;
// further rows find it in the cache.
template <typename Tile>
void multiply_tiles(const ggml_compute_params * params, const ggml_tensor * operation) {
    constexpr int64_t shares_per_thread = 8;
    const tiled_product<Tile> p(operation);
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    round_rows(params, p, *operation->src[1]);
    ggml_barrier(params->threadpool);
    const auto * rows = static_cast<const typename Tile::row_block *>(params->wdata);
    const int64_t n_tiles = p.n_outputs / tile_outputs;
    const int64_t n_shares = std::min(n_tiles, params->nth == 1 ? 1 : shares_per_thread * params->nth);
    for (int64_t share = params->ith; share < n_shares; share = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        for (int64_t tile = share * n_tiles / n_shares; tile < (share + 1) * n_tiles / n_shares; ++tile) {
            for (int64_t row = 0; row < p.n_rows; row += most_rows_at_once) {
                multiply_rows<Tile>(p, rows, row, tile);
            }
        }
    }
}

} // namespace alora::graph

#endif
