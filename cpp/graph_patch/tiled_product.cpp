// GCC 12 finds numbers that were never set in its own header of vector operations.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "tiled_product.h"

#if defined(__AMX_INT8__) && defined(__AVX512VNNI__)

#include "tiled_weights.hpp"

#include <algorithm>

namespace {

using alora::graph::most_rows_at_once;
using alora::graph::tile_outputs;

template <typename Tile>
struct product {
    const typename Tile::row_block * rows;
    int64_t n_rows;
    int64_t n_blocks; // of each row
    const char * weights;
    float * out;
    int64_t out_stride;
};

template <typename Tile, int Rows>
void multiply(const product<Tile> & p, int64_t first_row, int64_t tile) {
    __m512 sums[Rows]; // NOLINT(modernize-avoid-c-arrays): registers, and vectors are no template arguments
    for (__m512 & each : sums) {
        each = _mm512_setzero_ps();
    }
    const char * weights = p.weights + tile * p.n_blocks * Tile::bytes;
    for (int64_t i = 0; i < p.n_blocks; ++i) {
        Tile::template add<Rows>(sums, p.rows + first_row * p.n_blocks + i, p.n_blocks, weights + i * Tile::bytes);
    }
    for (int64_t m = 0; m < Rows; ++m) {
        _mm512_storeu_ps(p.out + (first_row + m) * p.out_stride + tile * tile_outputs, sums[m]);
    }
}

// Code of its own for each number of rows, so that sums stay in registers.
template <typename Tile, int Rows = most_rows_at_once>
void multiply_rows(const product<Tile> & p, int64_t first_row, int64_t tile) {
    if constexpr (Rows > 1) {
        if (p.n_rows - first_row < Rows) {
            multiply_rows<Tile, Rows - 1>(p, first_row, tile);
            return;
        }
    }
    multiply<Tile, Rows>(p, first_row, tile);
}

// Each thread has its share of the tiles. A tile comes from memory once; further rows find it in the cache.
template <typename Tile>
void multiply_tiles(const ggml_compute_params * params, ggml_tensor * operation) {
    const ggml_tensor * weights = operation->src[0];
    const product<Tile> p = {static_cast<const typename Tile::row_block *>(params->wdata),
                             operation->ne[1],
                             weights->ne[0] / ggml_blck_size(weights->type),
                             static_cast<const char *>(weights->data),
                             static_cast<float *>(operation->data),
                             static_cast<int64_t>(operation->nb[1] / sizeof(float))};
    const int64_t n_tiles = operation->ne[0] / tile_outputs;
    const int64_t end = (params->ith + 1) * n_tiles / params->nth;
    for (int64_t tile = params->ith * n_tiles / params->nth; tile < end; ++tile) {
        for (int64_t row = 0; row < p.n_rows; row += most_rows_at_once) {
            multiply_rows<Tile>(p, row, tile);
        }
    }
}

} // namespace

bool alora_tiled_product(const ggml_compute_params * params, ggml_tensor * operation) {
    if (operation->ne[2] * operation->ne[3] > 1) {
        return false;
    }
    switch (operation->src[0]->type) {
    case GGML_TYPE_Q4_K:
        multiply_tiles<alora::graph::tile_q4_K>(params, operation);
        return true;
    case GGML_TYPE_Q6_K:
        multiply_tiles<alora::graph::tile_q6_K>(params, operation);
        return true;
    case GGML_TYPE_Q8_0:
        multiply_tiles<alora::graph::tile_q8_0>(params, operation);
        return true;
    default:
        return false;
    }
}

#else

bool alora_tiled_product(const ggml_compute_params * /*params*/, ggml_tensor * /*operation*/) {
    return false;
}

#endif
