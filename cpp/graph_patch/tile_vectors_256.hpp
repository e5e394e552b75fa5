// Eight outputs in a vector (tile_vectors.hpp).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace alora::graph {

using integers = __m256i;
using floats = __m256;

// Weights are read in one stream; asked for so early, they are there in time.
constexpr int bytes_ahead = 8192;

// Four numbers of a row, for all outputs.
template <typename Number>
integers four(const Number * numbers, int64_t index) {
    int32_t together = 0;
    std::memcpy(&together, reinterpret_cast<const char *>(numbers) + 4 * index, sizeof(together));
    return _mm256_set1_epi32(together);
}

inline integers load(const char * address) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(address));
}

inline integers line(const char * address) {
    _mm_prefetch(address + bytes_ahead, _MM_HINT_T1);
    return load(address);
}

// Two bytes with a sign for each output.
inline integers pairs(const char * address) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(address)));
}

inline floats halves(const char * address) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(address)));
}

inline integers no_integers() {
    return _mm256_setzero_si256();
}

inline floats no_floats() {
    return _mm256_setzero_ps();
}

inline floats all(float number) {
    return _mm256_set1_ps(number);
}

inline integers all_bytes(char byte) {
    return _mm256_set1_epi8(byte);
}

inline integers both(integers a, integers b) {
    return _mm256_and_si256(a, b);
}

inline integers either(integers a, integers b) {
    return _mm256_or_si256(a, b);
}

template <int Bits>
integers left(integers a) {
    return _mm256_slli_epi16(a, Bits);
}

template <int Bits>
integers right(integers a) {
    return _mm256_srli_epi16(a, Bits);
}

inline integers plus(integers a, integers b) {
    return _mm256_add_epi32(a, b);
}

inline integers minus(integers a, integers b) {
    return _mm256_sub_epi32(a, b);
}

inline integers times_32(integers a) {
    return _mm256_slli_epi32(a, 5);
}

inline floats to_floats(integers a) {
    return _mm256_cvtepi32_ps(a);
}

inline floats times(floats a, floats b) {
    return _mm256_mul_ps(a, b);
}

inline floats add_product(floats sum, floats a, floats b) {
    return _mm256_fmadd_ps(a, b, sum);
}

inline floats take_product(floats sum, floats a, floats b) {
    return _mm256_fnmadd_ps(a, b, sum);
}

inline void store(float * to, floats numbers) {
    _mm256_storeu_ps(to, numbers);
}

inline integers add_pairs(integers sum, integers a, integers b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

#ifdef ALORA_TILES_VNNI

// The first or the second of each pair, as `weigh` takes it.
inline integers first_factors(integers of) {
    return _mm256_srai_epi32(_mm256_slli_epi32(of, 16), 16);
}

inline integers second_factors(integers of) {
    return _mm256_srai_epi32(of, 16);
}

inline integers add_four(integers sum, integers without_sign, integers with_sign) {
    return _mm256_dpbusd_avx_epi32(sum, without_sign, with_sign);
}

inline integers weigh(integers sum, integers factors) {
    return _mm256_mullo_epi32(sum, factors);
}

#else

// The first or the second of each pair, twice, as `weigh` takes it.
inline integers first_factors(integers of) {
    return _mm256_blend_epi16(of, _mm256_slli_epi32(of, 16), 0xAA);
}

inline integers second_factors(integers of) {
    return _mm256_blend_epi16(_mm256_srli_epi32(of, 16), of, 0xAA);
}

inline integers add_four(integers sum, integers without_sign, integers with_sign) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(without_sign, with_sign));
}

inline integers weigh(integers sum, integers factors) {
    return _mm256_madd_epi16(sum, factors);
}

// Numbers of 8 bits with signs: the product of two is that of the one without its sign and the other with both.
inline integers without_signs(integers numbers) {
    return _mm256_abs_epi8(numbers);
}

inline integers with_signs(integers numbers, integers signs) {
    return _mm256_sign_epi8(numbers, signs);
}

inline integers ones() {
    return _mm256_set1_epi16(1);
}

#endif

} // namespace alora::graph
