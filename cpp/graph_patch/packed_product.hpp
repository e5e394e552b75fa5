// Products of small matrices in 32 bits, for the columns that attention packs side by side.
#pragma once

#include "ggml-cpu-impl.h"
#include "simd-mappings.h"

#include <algorithm>
#include <cstdint>

// Where vectors have a size that the compiler knows.
#if defined(GGML_SIMD) && !defined(__ARM_FEATURE_SVE) && !defined(__riscv_v_intrinsic)
#define ALORA_PACKED_ATTENTION

namespace alora::graph {

using vector = GGML_F32_VEC;

constexpr int64_t lanes = GGML_F32_EPR;

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int strip = 4; // of 32 registers, 16 hold sums
#else
constexpr int strip = 2;
#endif

// Adds to sums [M, N lanes] the products of A and B over `depth`; A(m, k) is a[m * step_m + k * step_k], and B's rows
// are `width` apart, as are those of the sums.
template <int M, int N>
inline void multiply_block(float * sums, const float * a, int64_t step_m, int64_t step_k, const float * b,
                           int64_t depth, int64_t width) {
    vector held[M][N]; // NOLINT(modernize-avoid-c-arrays): registers, and vectors are no template arguments
    for (int m = 0; m < M; ++m) {
        for (int n = 0; n < N; ++n) {
            held[m][n] = GGML_F32_VEC_LOAD(sums + m * width + n * lanes);
        }
    }
    for (int64_t k = 0; k < depth; ++k) {
        vector row[N]; // NOLINT(modernize-avoid-c-arrays)
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
inline void multiply_strip(float * sums, const float * a, int64_t step_m, int64_t step_k, const float * b, int64_t rows,
                           int64_t depth, int64_t width) {
    for (int64_t m = 0; m < rows; m += M) {
        multiply_block<M, N>(sums + m * width, a + m * step_m, step_m, step_k, b, depth, width);
    }
}

// sums [rows, width] += A [rows, depth] * b [depth, width]; rows are a multiple of 8, the width one of `lanes`.
inline void multiply(float * sums, const float * a, int64_t step_m, int64_t step_k, const float * b, int64_t rows,
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

} // namespace alora::graph

#endif
