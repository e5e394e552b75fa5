// Tiles of weights, as wide as a vector has lanes: how each type's blocks are packed into one, and what a tile adds for
// up to eight rows.
//
// A line of a tile has four bytes for each output: as many numbers, twice as many of 4 bits, or further bits of more.
#pragma once

#include "tile_vectors.hpp"

#ifdef ALORA_TILES

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "simd-mappings.h"

#include <algorithm>
#include <numeric>

namespace alora::graph {

constexpr int most_rows_at_once = 8;
constexpr int64_t line_bytes = 4 * tile_outputs;
constexpr int64_t half_bytes = static_cast<int64_t>(sizeof(ggml_half)) * tile_outputs;

// NOLINTBEGIN(modernize-avoid-c-arrays): registers, and vectors are no template arguments

// Eight groups of 32 numbers in 4 or 5 bits, eight scales and eight offsets of groups, and a scale for each of these.
template <typename Block, ggml_type Type, bool FiveBits>
struct tile_with_offsets {
    static constexpr ggml_type type = Type;
    static constexpr ggml_type row_type = GGML_TYPE_Q8_K;
    using block = Block;
    using row_block = block_q8_K;

    static constexpr int64_t fifth_bits = 32 * line_bytes; // a line for each group
    static constexpr int64_t scales = fifth_bits + (FiveBits ? 8 * line_bytes : 0);
    static constexpr int64_t offsets = scales + 8 * tile_outputs;
    static constexpr int64_t scale = offsets + 8 * tile_outputs;
    static constexpr int64_t offset_scale = scale + half_bytes;
    static constexpr int64_t bytes = offset_scale + half_bytes;

    static void pack(char * tile, int64_t output, const block & from) {
        for (int64_t group = 0; group < 8; ++group) {
            const uint8_t * numbers = from.qs + group / 2 * 32;
            const int shift = group % 2 == 0 ? 0 : 4;
            for (int64_t i = 0; i < 16; ++i) { // eight numbers after one another are four bytes of a line
                const int64_t at = i / 4 * 8 + i % 4;
                const int low = numbers[at] >> shift & 0xF;
                const int high = numbers[at + 4] >> shift & 0xF;
                tile[(4 * group + i / 4) * line_bytes + 4 * output + i % 4] = static_cast<char>(low | high << 4);
            }
            if constexpr (FiveBits) {
                for (int64_t i = 0; i < 4; ++i) {
                    int together = 0;
                    for (int64_t k = 0; k < 8; ++k) {
                        const int64_t place = k % 2 == 0 ? 4 + k / 2 : k / 2; // where few shifts bring it to the fifth
                        together |= (from.qh[4 * k + i] >> group & 1) << place;
                    }
                    tile[fifth_bits + group * line_bytes + 4 * output + i] = static_cast<char>(together);
                }
            }
            const uint8_t * packed = from.scales + group % 4;
            const int upper = packed[8];
            const bool early = group < 4;
            const int factor = early ? packed[0] & 63 : (upper & 0xF) | packed[0] >> 6 << 4;
            const int offset = early ? packed[4] & 63 : upper >> 4 | packed[4] >> 6 << 4;
            const int64_t place = (group / 2 * tile_outputs + output) * 2 + group % 2;
            tile[scales + place] = static_cast<char>(factor);
            tile[offsets + place] = static_cast<char>(offset);
        }
        const auto & of_block = from.data.data;
        std::memcpy(tile + scale + 2 * output, &of_block.d, sizeof(of_block.d));
        std::memcpy(tile + offset_scale + 2 * output, &of_block.dmin, sizeof(of_block.dmin));
    }

    static void prepare(row_block & /*row*/) {}

    template <int Rows>
    static void add(floats * sums, const row_block * rows, int64_t stride, const char * tile) {
        integers total[Rows];
        std::fill_n(total, Rows, no_integers());
        for (int64_t group = 0; group < 8; ++group) {
            const integers two = pairs(tile + scales + group / 2 * 2 * tile_outputs);
            const integers factors = group % 2 == 0 ? first_factors(two) : second_factors(two);
            integers high = FiveBits ? line(tile + fifth_bits + group * line_bytes) : no_integers();
            integers product[Rows];
            std::fill_n(product, Rows, no_integers());
            for (int64_t first = 0; first < 8; first += unpacked_at_once) {
                integers numbers[unpacked_at_once];
                unpack(numbers, tile + (4 * group + first / 2) * line_bytes, high);
                for (int64_t i = 0; i < unpacked_at_once; ++i) {
                    for (int64_t m = 0; m < Rows; ++m) {
                        product[m] = add_four(product[m], numbers[i], four(rows[m * stride].qs, 8 * group + first + i));
                    }
                }
                const int64_t done = first + unpacked_at_once;
                if (done == 8 || (FiveBits && done % five_bit_sums == 0)) {
                    for (int64_t m = 0; m < Rows; ++m) {
                        total[m] = plus(total[m], weigh(product[m], factors));
                        product[m] = no_integers();
                    }
                }
            }
        }
        for (int64_t m = 0; m < Rows; ++m) {
            const floats of_row = all(rows[m * stride].d);
            sums[m] = add_product(sums[m], to_floats(total[m]), times(halves(tile + scale), of_row));
            sums[m] = take_product(sums[m], to_floats(below(rows[m * stride], tile)),
                                   times(halves(tile + offset_scale), of_row));
        }
    }

private:
    static void unpack(integers * numbers, const char * from, integers & high) {
        const integers low_bits = all_bytes(0xF);
        const integers fifth_bit = all_bytes(0x10);
        for (int64_t i = 0; i < unpacked_at_once; i += 2) {
            const integers eight = line(from + i / 2 * line_bytes);
            numbers[i] = both(eight, low_bits);
            numbers[i + 1] = both(right<4>(eight), low_bits);
            if constexpr (FiveBits) {
                numbers[i] = either(numbers[i], both(high, fifth_bit));
                numbers[i + 1] = either(numbers[i + 1], both(left<4>(high), fifth_bit));
                high = right<1>(high);
            }
        }
    }

    // What the offsets of the groups come to.
    static integers below(const row_block & row, const char * tile) {
        const auto * of_16 = reinterpret_cast<const __m128i *>(row.bsums);
        int16_t group_sums[8];
        _mm_storeu_si128(reinterpret_cast<__m128i *>(group_sums),
                         _mm_hadd_epi16(_mm_loadu_si128(of_16), _mm_loadu_si128(of_16 + 1)));
        integers sum = no_integers();
        for (int64_t k = 0; k < 4; ++k) {
            sum = add_pairs(sum, four(group_sums, k), pairs(tile + offsets + k * 2 * tile_outputs));
        }
        return sum;
    }
};

using tile_q4_K = tile_with_offsets<block_q4_K, GGML_TYPE_Q4_K, false>;
using tile_q5_K = tile_with_offsets<block_q5_K, GGML_TYPE_Q5_K, true>;

// Sixteen groups of 16 numbers in 6 bits, four of them and two apart, sixteen scales of groups, and one for these.
struct tile_q6_K {
    static constexpr ggml_type type = GGML_TYPE_Q6_K;
    static constexpr ggml_type row_type = GGML_TYPE_Q8_K;
    using block = block_q6_K;
    using row_block = block_q8_K;

    static constexpr int64_t high_bits = 32 * line_bytes;
    static constexpr int64_t scales = high_bits + 16 * line_bytes;
    static constexpr int64_t scale = scales + 16 * tile_outputs;
    static constexpr int64_t bytes = scale + half_bytes;

    static void pack(char * tile, int64_t output, const block & from) {
        for (int64_t group = 0; group < 16; ++group) {
            // A half of the block has four times 32 numbers: those of two and two share bytes, those of all four share
            // the bytes of high bits.
            const int64_t quarter = group / 2 % 4;
            const uint8_t * low = from.ql + group / 8 * 64 + quarter % 2 * 32 + group % 2 * 16;
            const uint8_t * high = from.qh + group / 8 * 32 + group % 2 * 16;
            const int64_t shift = quarter / 2 * 4;
            for (int64_t i = 0; i < 4; ++i) {
                int number[4];
                int high_together = 0;
                for (int64_t k = 0; k < 4; ++k) {
                    number[k] = low[4 * k + i] >> shift & 0xF;
                    high_together |= (high[4 * k + i] >> 2 * quarter & 3) << 2 * k;
                }
                char * to = tile + 2 * group * line_bytes + 4 * output + i;
                to[0] = static_cast<char>(number[0] | number[1] << 4);
                to[line_bytes] = static_cast<char>(number[2] | number[3] << 4);
                tile[high_bits + group * line_bytes + 4 * output + i] = static_cast<char>(high_together);
            }
            tile[scales + (group / 2 * tile_outputs + output) * 2 + group % 2] = static_cast<char>(from.scales[group]);
        }
        std::memcpy(tile + scale + 2 * output, &from.d, sizeof(from.d));
    }

    static void prepare(row_block & /*row*/) {}

    template <int Rows>
    static void add(floats * sums, const row_block * rows, int64_t stride, const char * tile) {
        const integers low_bits = all_bytes(0xF);
        const integers two_bits = all_bytes(0x30);
        integers total[Rows];
        std::fill_n(total, Rows, no_integers());
        for (int64_t group = 0; group < 16; ++group) {
            const integers first = line(tile + 2 * group * line_bytes);
            const integers second = line(tile + (2 * group + 1) * line_bytes);
            const integers high = line(tile + high_bits + group * line_bytes);
            const integers numbers[4] = {
                either(both(first, low_bits), both(left<4>(high), two_bits)),
                either(both(right<4>(first), low_bits), both(left<2>(high), two_bits)),
                either(both(second, low_bits), both(high, two_bits)),
                either(both(right<4>(second), low_bits), both(right<2>(high), two_bits)),
            };
            const integers two = pairs(tile + scales + group / 2 * 2 * tile_outputs);
            const integers factors = group % 2 == 0 ? first_factors(two) : second_factors(two);
            for (int64_t m = 0; m < Rows; ++m) {
                for (int64_t k = 0; k < 4; k += six_bit_sums) {
                    integers product = no_integers();
                    for (int64_t i = k; i < k + six_bit_sums; ++i) {
                        product = add_four(product, numbers[i], four(rows[m * stride].qs, 4 * group + i));
                    }
                    total[m] = plus(total[m], weigh(product, factors));
                }
            }
        }
        for (int64_t m = 0; m < Rows; ++m) {
            integers excess = no_integers(); // numbers are stored 32 too large
            for (int64_t k = 0; k < 8; ++k) {
                excess =
                    add_pairs(excess, four(rows[m * stride].bsums, k), pairs(tile + scales + k * 2 * tile_outputs));
            }
            const floats whole = times(halves(tile + scale), all(rows[m * stride].d));
            sums[m] = add_product(sums[m], to_floats(minus(total[m], times_32(excess))), whole);
        }
    }
};

// 32 numbers of 8 bits with a scale. Where a product is one instruction, its first factor has no sign: rows are
// multiplied 128 too large then, and 128 times the numbers' sum is kept to be taken away.
struct tile_q8_0 {
    static constexpr ggml_type type = GGML_TYPE_Q8_0;
    static constexpr ggml_type row_type = GGML_TYPE_Q8_0;
    using block = block_q8_0;
    using row_block = block_q8_0;

    static constexpr int64_t scale = 8 * line_bytes;
    static constexpr int64_t excess = scale + half_bytes;
#ifdef ALORA_TILES_VNNI
    static constexpr int64_t bytes = excess + line_bytes;
#else
    static constexpr int64_t bytes = excess;
#endif

    static void pack(char * tile, int64_t output, const block & from) {
        for (int64_t i = 0; i < 32; ++i) {
            tile[i / 4 * line_bytes + 4 * output + i % 4] = static_cast<char>(from.qs[i]);
        }
        std::memcpy(tile + scale + 2 * output, &from.d, sizeof(from.d));
#ifdef ALORA_TILES_VNNI
        const int32_t too_much = 128 * std::accumulate(from.qs, from.qs + 32, 0);
        std::memcpy(tile + excess + 4 * output, &too_much, sizeof(too_much));
#endif
    }

    static void prepare(row_block & row) {
#ifdef ALORA_TILES_VNNI
        for (int8_t & number : row.qs) {
            number = static_cast<int8_t>(number ^ -128); // 128 larger, read without a sign
        }
#else
        (void)row;
#endif
    }

    template <int Rows>
    static void add(floats * sums, const row_block * rows, int64_t stride, const char * tile) {
        integers product[Rows];
        std::fill_n(product, Rows, no_integers());
#ifdef ALORA_TILES_VNNI
        for (int64_t k = 0; k < 8; ++k) {
            const integers numbers = line(tile + k * line_bytes);
            for (int64_t m = 0; m < Rows; ++m) {
                product[m] = add_four(product[m], four(rows[m * stride].qs, k), numbers);
            }
        }
        const integers too_much = load(tile + excess);
        for (integers & each : product) {
            each = minus(each, too_much);
        }
#else
        for (int64_t k = 0; k < 8; ++k) {
            const integers numbers = line(tile + k * line_bytes);
            const integers without_sign = without_signs(numbers);
            for (int64_t m = 0; m < Rows; ++m) {
                const integers of_row = with_signs(four(rows[m * stride].qs, k), numbers);
                product[m] = plus(product[m], weigh(add_four(no_integers(), without_sign, of_row), ones()));
            }
        }
#endif
        const floats whole = halves(tile + scale);
        for (int64_t m = 0; m < Rows; ++m) {
            const floats of_row = all(GGML_CPU_FP16_TO_FP32(rows[m * stride].d));
            sums[m] = add_product(sums[m], to_floats(product[m]), times(whole, of_row));
        }
    }
};

// NOLINTEND(modernize-avoid-c-arrays)

} // namespace alora::graph

#endif
