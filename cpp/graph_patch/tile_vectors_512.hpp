// Sixteen outputs in a vector (tile_vectors.hpp).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace alora::graph {

using integers = __m512i;
using floats = __m512;

// Weights are read in one stream; asked for so early, they are there in time.
constexpr int bytes_ahead = 8192;

// Four numbers of a row, for all outputs.
template <typename Number>
integers four(const Number * numbers, int64_t index) {
    int32_t together = 0;
    std::memcpy(&together, reinterpret_cast<const char *>(numbers) + 4 * index, sizeof(together));
    return _mm512_set1_epi32(together);
}

inline integers line(const char * address) {
    _mm_prefetch(address + bytes_ahead, _MM_HINT_T1);
    return _mm512_loadu_si512(address);
}

// Two bytes with a sign for each output.
inline integers pairs(const char * address) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(address)));
}

inline floats halves(const char * address) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(address)));
}

inline integers no_integers() {
    return _mm512_setzero_si512();
}

inline floats no_floats() {
    return _mm512_setzero_ps();
}

inline floats all(float number) {
    return _mm512_set1_ps(number);
}

inline integers all_bytes(char byte) {
    return _mm512_set1_epi8(byte);
}

inline integers both(integers a, integers b) {
    return _mm512_and_si512(a, b);
}

inline integers either(integers a, integers b) {
    return _mm512_or_si512(a, b);
}

template <int Bits>
integers left(integers a) {
    return _mm512_slli_epi16(a, Bits);
}

template <int Bits>
integers right(integers a) {
    return _mm512_srli_epi16(a, Bits);
}

inline integers plus(integers a, integers b) {
    return _mm512_add_epi32(a, b);
}

// The first or the second of each pair, as `weigh` takes it.
inline integers first_factors(integers of) {
    return _mm512_srai_epi32(_mm512_slli_epi32(of, 16), 16);
}

inline integers second_factors(integers of) {
    return _mm512_srai_epi32(of, 16);
}

inline integers add_pairs(integers sum, integers a, integers b) {
    return _mm512_dpwssd_epi32(sum, a, b);
}

inline integers add_four(integers sum, integers without_sign, integers with_sign) {
    return _mm512_dpbusd_epi32(sum, without_sign, with_sign);
}

inline integers weigh(integers sum, integers factors) {
    return _mm512_mullo_epi32(sum, factors);
}

inline integers times_32(integers a) {
    return _mm512_slli_epi32(a, 5);
}

inline integers minus(integers a, integers b) {
    return _mm512_sub_epi32(a, b);
}

inline floats to_floats(integers a) {
    return _mm512_cvtepi32_ps(a);
}

inline floats times(floats a, floats b) {
    return _mm512_mul_ps(a, b);
}

inline floats add_product(floats sum, floats a, floats b) {
    return _mm512_fmadd_ps(a, b, sum);
}

inline floats take_product(floats sum, floats a, floats b) {
    return _mm512_fnmadd_ps(a, b, sum);
}

inline integers load(const char * address) {
    return _mm512_loadu_si512(address);
}

inline void store(float * to, floats numbers) {
    _mm512_storeu_ps(to, numbers);
}

} // namespace alora::graph
