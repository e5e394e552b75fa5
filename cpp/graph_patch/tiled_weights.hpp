// What a tile of weights, 16 outputs wide, adds for up to eight rows, as each type lies in memory for AMX
// (amx/mmq.cpp).
#pragma once

#include "ggml-cpu-impl.h"
#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace alora::graph {

constexpr int64_t tile_outputs = 16;
constexpr int most_rows_at_once = 8; // a row's sums take three of 32 registers

// Weights are read in one stream; asked for so early, they are there in time.
constexpr int bytes_ahead = 8192;

inline __m512i line(const char * address) {
    _mm_prefetch(address + bytes_ahead, _MM_HINT_T1);
    return _mm512_loadu_si512(address);
}

inline __m512i sixteen_bytes(const char * address) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(address)));
}

inline __m512 sixteen_halves(const char * address) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(address)));
}

// Four numbers of a row, for all sixteen outputs.
template <typename Number>
__m512i four(const Number * numbers, int64_t index) {
    int32_t together = 0;
    std::memcpy(&together, reinterpret_cast<const char *>(numbers) + 4 * index, sizeof(together));
    return _mm512_set1_epi32(together);
}

// NOLINTBEGIN(modernize-avoid-c-arrays): registers, and vectors are no template arguments

// Eight groups of 32 numbers in 4 bits, eight scales and eight offsets of groups, and a scale for each of these.
struct tile_q4_K {
    using row_block = block_q8_K;

    static constexpr int64_t scales = 128 * tile_outputs;
    static constexpr int64_t offsets = scales + 8 * tile_outputs;
    static constexpr int64_t scale = offsets + 8 * tile_outputs;
    static constexpr int64_t offset_scale = scale + static_cast<int64_t>(sizeof(ggml_half)) * tile_outputs;
    static constexpr int64_t bytes = offset_scale + static_cast<int64_t>(sizeof(ggml_half)) * tile_outputs;

    template <int Rows>
    static void add(__m512 * sums, const row_block * rows, int64_t stride, const char * tile) {
        const __m512i low_bits = _mm512_set1_epi8(0xF);
        __m512i total[Rows];
        for (__m512i & each : total) {
            each = _mm512_setzero_si512();
        }
        for (int64_t group = 0; group < 8; ++group) {
            __m512i product[Rows];
            for (__m512i & each : product) {
                each = _mm512_setzero_si512();
            }
            for (int64_t k = 0; k < 4; ++k) {
                const __m512i both = line(tile + (4 * group + k) * 64);
                const __m512i low = _mm512_and_si512(both, low_bits);
                const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_bits);
                for (int64_t m = 0; m < Rows; ++m) {
                    const int8_t * numbers = rows[m * stride].qs;
                    product[m] = _mm512_dpbusd_epi32(product[m], low, four(numbers, 8 * group + 2 * k));
                    product[m] = _mm512_dpbusd_epi32(product[m], high, four(numbers, 8 * group + 2 * k + 1));
                }
            }
            const __m512i factor = sixteen_bytes(tile + scales + group * tile_outputs);
            for (int64_t m = 0; m < Rows; ++m) {
                total[m] = _mm512_add_epi32(total[m], _mm512_mullo_epi32(product[m], factor));
            }
        }
        __m512i pairs[4]; // offsets of two groups at a time
        for (int64_t k = 0; k < 4; ++k) {
            pairs[k] = _mm512_cvtepi8_epi16(
                _mm256_loadu_si256(reinterpret_cast<const __m256i *>(tile + offsets + 2 * k * tile_outputs)));
        }
        for (int64_t m = 0; m < Rows; ++m) {
            const __m256i by_16 = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(rows[m * stride].bsums));
            int16_t by_32[8];
            _mm_storeu_si128(reinterpret_cast<__m128i *>(by_32),
                             _mm_hadd_epi16(_mm256_castsi256_si128(by_16), _mm256_extracti128_si256(by_16, 1)));
            __m512i below = _mm512_setzero_si512();
            for (int64_t k = 0; k < 4; ++k) {
                below = _mm512_dpwssds_epi32(below, four(by_32, k), pairs[k]);
            }
            const __m512 of_row = _mm512_set1_ps(rows[m * stride].d);
            const __m512 whole = _mm512_mul_ps(sixteen_halves(tile + scale), of_row);
            const __m512 least = _mm512_mul_ps(sixteen_halves(tile + offset_scale), of_row);
            sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[m]), whole, sums[m]);
            sums[m] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(below), least, sums[m]);
        }
    }
};

// Sixteen groups of 16 numbers in 6 bits, four of them and two apart, sixteen scales of groups, and one for these.
struct tile_q6_K {
    using row_block = block_q8_K;

    static constexpr int64_t high_bits = 128 * tile_outputs;
    static constexpr int64_t scales = high_bits + 64 * tile_outputs;
    static constexpr int64_t scale = scales + 16 * tile_outputs;
    static constexpr int64_t bytes = scale + static_cast<int64_t>(sizeof(ggml_half)) * tile_outputs;

    template <int Rows>
    static void add(__m512 * sums, const row_block * rows, int64_t stride, const char * tile) {
        const __m512i low_bits = _mm512_set1_epi8(0xF);
        const __m512i two_bits = _mm512_set1_epi8(0x30);
        __m512i total[Rows];
        int32_t lead[Rows][16]; // numbers are stored 32 too large
        for (int64_t m = 0; m < Rows; ++m) {
            total[m] = _mm512_setzero_si512();
            const __m512i by_16 =
                _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(rows[m * stride].bsums)));
            _mm512_storeu_si512(lead[m], _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(by_16, 5)));
        }
        for (int64_t group = 0; group < 16; ++group) {
            const __m512i first = line(tile + 2 * group * 64);
            const __m512i second = line(tile + (2 * group + 1) * 64);
            const __m512i high = line(tile + high_bits + group * 64);
            const __m512i numbers[4] = {
                _mm512_or_si512(_mm512_and_si512(first, low_bits),
                                _mm512_and_si512(_mm512_slli_epi16(high, 4), two_bits)),
                _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(first, 4), low_bits),
                                _mm512_and_si512(_mm512_slli_epi16(high, 2), two_bits)),
                _mm512_or_si512(_mm512_and_si512(second, low_bits), _mm512_and_si512(high, two_bits)),
                _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(second, 4), low_bits),
                                _mm512_and_si512(_mm512_srli_epi16(high, 2), two_bits)),
            };
            const __m512i factor = sixteen_bytes(tile + scales + group * tile_outputs);
            for (int64_t m = 0; m < Rows; ++m) {
                __m512i product = four(lead[m], group);
                for (int64_t k = 0; k < 4; ++k) {
                    product = _mm512_dpbusd_epi32(product, numbers[k], four(rows[m * stride].qs, 4 * group + k));
                }
                total[m] = _mm512_add_epi32(total[m], _mm512_mullo_epi32(product, factor));
            }
        }
        for (int64_t m = 0; m < Rows; ++m) {
            const __m512 whole = _mm512_mul_ps(sixteen_halves(tile + scale), _mm512_set1_ps(rows[m * stride].d));
            sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[m]), whole, sums[m]);
        }
    }
};

// 32 numbers of 8 bits with a scale, and 128 times their sum: rows are multiplied 128 too large, to have no sign.
struct tile_q8_0 {
    using row_block = block_q8_0;

    static constexpr int64_t scale = 32 * tile_outputs;
    static constexpr int64_t excess = scale + static_cast<int64_t>(sizeof(ggml_half)) * tile_outputs;
    static constexpr int64_t bytes = excess + static_cast<int64_t>(sizeof(int32_t)) * tile_outputs;

    template <int Rows>
    static void add(__m512 * sums, const row_block * rows, int64_t stride, const char * tile) {
        uint8_t without_sign[Rows][32];
        __m512i product[Rows];
        for (int64_t m = 0; m < Rows; ++m) {
            const __m256i numbers = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(rows[m * stride].qs));
            _mm256_storeu_si256(reinterpret_cast<__m256i *>(without_sign[m]),
                                _mm256_xor_si256(numbers, _mm256_set1_epi8(-128)));
            product[m] = _mm512_setzero_si512();
        }
        for (int64_t k = 0; k < 8; ++k) {
            const __m512i numbers = line(tile + k * 64);
            for (int64_t m = 0; m < Rows; ++m) {
                product[m] = _mm512_dpbusd_epi32(product[m], four(without_sign[m], k), numbers);
            }
        }
        const __m512 whole = sixteen_halves(tile + scale);
        const __m512i too_much = _mm512_loadu_si512(tile + excess);
        for (int64_t m = 0; m < Rows; ++m) {
            const __m512 of_row = _mm512_set1_ps(_cvtsh_ss(rows[m * stride].d));
            sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(product[m], too_much)),
                                      _mm512_mul_ps(whole, of_row), sums[m]);
        }
    }
};

// NOLINTEND(modernize-avoid-c-arrays)

} // namespace alora::graph
