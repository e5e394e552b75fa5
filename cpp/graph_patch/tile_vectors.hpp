// The vectors that quantized weights are multiplied with on x86: a lane of 32 bits for each output.
//
// Numbers of 4 to 6 bits have no sign, those of rows have 8 bits and one. What AVX-512 VNNI and AVX-VNNI do in one
// instruction, AVX2 does in 16 bits: pairs of products are added up there while they cannot overflow, and the factor of
// their group makes 32 bits of them.
#pragma once

#include "ggml-cpu-impl.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#define ALORA_TILES
#define ALORA_TILES_512
#elif defined(__AVX2__)
#define ALORA_TILES
#endif
#if defined(ALORA_TILES_512) || (defined(ALORA_TILES) && defined(__AVXVNNI__))
#define ALORA_TILES_VNNI
#endif

#ifdef ALORA_TILES

#ifdef ALORA_TILES_512
#include "tile_vectors_512.hpp"
#else
#include "tile_vectors_256.hpp"
#endif

namespace alora::graph {

constexpr int64_t tile_outputs = sizeof(integers) / sizeof(int32_t);

// How many products of four numbers in 5 or 6 bits may be added up before their factor: all of a group, or some.
#ifdef ALORA_TILES_VNNI
constexpr int64_t five_bit_sums = 8;
constexpr int64_t six_bit_sums = 4;
#else
constexpr int64_t five_bit_sums = 4;
constexpr int64_t six_bit_sums = 2;
#endif

// How many vectors of numbers are held unpacked beside the sums of eight rows: there are 32 registers, or 16.
constexpr int64_t unpacked_at_once = tile_outputs == 16 ? 8 : 2;

} // namespace alora::graph

#endif
