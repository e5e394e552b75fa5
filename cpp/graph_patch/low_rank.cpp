// GCC 12 finds numbers that were never set in its own header of vector operations.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "low_rank.h"

#include "packed_product.hpp"

#include "ggml-cpu-impl.h"
#include "ggml.h"
#include "vec.h"

#include <algorithm>
#include <cstring>
#include <vector>

#ifdef ALORA_PACKED_ATTENTION

namespace alora::graph {

namespace {

constexpr int64_t piece = 512;     // numbers of A that are unpacked at a time
constexpr int64_t few_columns = 2; // up to which a sum for each output is less work than one for each lane
constexpr int64_t bytes_ahead = 4096;
constexpr int64_t line = 64; // bytes that come together

void unpack(float * to, const ggml_tensor * from, int64_t row, int64_t first, int64_t count) {
    const char * numbers = static_cast<const char *>(from->data) + row * static_cast<int64_t>(from->nb[1]);
#if defined(__GNUC__)
    // What comes next is on its way meanwhile.
    const auto size = static_cast<int64_t>(ggml_type_size(from->type));
    for (int64_t offset = first * size; offset < (first + count) * size; offset += line) {
        __builtin_prefetch(numbers + offset + bytes_ahead);
    }
#endif
    if (from->type == GGML_TYPE_F16) {
        ggml_cpu_fp16_to_fp32(reinterpret_cast<const ggml_fp16_t *>(numbers) + first, to, count);
    } else {
        std::memcpy(to, reinterpret_cast<const float *>(numbers) + first, static_cast<size_t>(count) * sizeof(float));
    }
}

const float * row_of(const ggml_tensor * rows, int64_t row) {
    return reinterpret_cast<const float *>(static_cast<const char *>(rows->data) +
                                           row * static_cast<int64_t>(rows->nb[1]));
}

// One number of A x for each row of the span.
void multiply_a(float * low, const low_rank_span & span, int64_t number, const ggml_tensor * rows) {
    const int64_t rank = span.a->ne[1];
    for (int64_t row = 0; row < span.count; ++row) {
        low[span.at + row * rank + number] = 0.0F;
    }
    float unpacked[piece]; // NOLINT(modernize-avoid-c-arrays): large, and set before it is read
    for (int64_t first = 0; first < span.a->ne[0]; first += piece) {
        const int64_t count = std::min(piece, span.a->ne[0] - first);
        unpack(unpacked, span.a, number, first, count);
        for (int64_t row = 0; row < span.count; ++row) {
            float sum = 0.0F;
            ggml_vec_dot_f32(static_cast<int>(count), &sum, 0, unpacked, 0, row_of(rows, span.first + row) + first, 0,
                             1);
            low[span.at + row * rank + number] += sum;
        }
    }
}

// Rows of B lie behind one another, so several are unpacked as one.
void unpack_outputs(float * to, const ggml_tensor * b, int64_t output) {
    const int64_t rank = b->ne[0];
    if (b->nb[1] == static_cast<size_t>(rank) * ggml_type_size(b->type)) {
        unpack(to, b, output, 0, outputs_at_once * rank);
        return;
    }
    for (int64_t o = 0; o < outputs_at_once; ++o) {
        unpack(to + o * rank, b, output + o, 0, rank);
    }
}

float * place_of(ggml_tensor * product, int64_t row, int64_t output) {
    return reinterpret_cast<float *>(static_cast<char *>(product->data) + row * static_cast<int64_t>(product->nb[1])) +
           output;
}

float dot(const float * left, const float * right, int64_t count) {
    vector sums[GGML_F32_ARR]; // NOLINT(modernize-avoid-c-arrays): what GGML_F32_VEC_REDUCE wants
    for (vector & sum : sums) {
        sum = GGML_F32_VEC_ZERO;
    }
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        sums[0] = GGML_F32_VEC_FMA(sums[0], GGML_F32_VEC_LOAD(left + i), GGML_F32_VEC_LOAD(right + i));
    }
    ggml_float total = 0.0;
    GGML_F32_VEC_REDUCE(total, sums);
    for (; i < count; ++i) {
        total += left[i] * right[i];
    }
    return static_cast<float>(total);
}

// Adds B's part of some outputs to one row after another.
void add_b_by_rows(ggml_tensor * product, const low_rank_span & span, const float * low, int64_t first_output,
                   int64_t n_outputs) {
    const int64_t rank = span.b->ne[0];
    for (int64_t output = first_output; output < first_output + n_outputs; output += outputs_at_once) {
        float unpacked[outputs_at_once * largest_fused_rank]; // NOLINT(modernize-avoid-c-arrays)
        unpack_outputs(unpacked, span.b, output);
        for (int64_t row = 0; row < span.count; ++row) {
            float * to = place_of(product, span.first + row, output);
            for (int64_t o = 0; o < outputs_at_once; ++o) {
                to[o] += span.scale * dot(unpacked + o * rank, low + span.at + row * rank, rank);
            }
        }
    }
}

// The same for up to a vector of rows at once.
void add_b_by_lanes(ggml_tensor * product, const low_rank_span & span, const float * low, int64_t row,
                    int64_t first_output, int64_t n_outputs) {
    const int64_t rank = span.b->ne[0];
    const int64_t n_rows = std::min(lanes, span.count - row);
    float columns[largest_fused_rank * lanes]; // NOLINT(modernize-avoid-c-arrays)
    std::fill_n(columns, rank * lanes, 0.0F);
    for (int64_t c = 0; c < n_rows; ++c) {
        for (int64_t k = 0; k < rank; ++k) {
            columns[k * lanes + c] = low[span.at + (row + c) * rank + k] * span.scale;
        }
    }
    for (int64_t output = first_output; output < first_output + n_outputs; output += outputs_at_once) {
        float unpacked[outputs_at_once * largest_fused_rank]; // NOLINT(modernize-avoid-c-arrays)
        float sums[outputs_at_once * lanes] = {};             // NOLINT(modernize-avoid-c-arrays)
        unpack_outputs(unpacked, span.b, output);
        multiply(sums, unpacked, rank, 1, columns, outputs_at_once, rank, lanes);
        for (int64_t c = 0; c < n_rows; ++c) {
            float * to = place_of(product, span.first + row + c, output);
            for (int64_t o = 0; o < outputs_at_once; ++o) {
                to[o] += sums[o * lanes + c];
            }
        }
    }
}

void low_rank(ggml_tensor * result, int thread, int n_threads, void * userdata) {
    const auto & spans = *static_cast<const std::vector<low_rank_span> *>(userdata);
    int64_t total = 0;
    for (const low_rank_span & span : spans) {
        total += span.a->ne[1];
    }
    // A's rows of all adapters in one list, of which each thread has a piece.
    const int64_t begin = thread * total / n_threads;
    const int64_t end = (thread + 1) * total / n_threads;
    int64_t before = 0;
    for (const low_rank_span & span : spans) {
        const int64_t rank = span.a->ne[1];
        for (int64_t number = std::max(begin, before); number < std::min(end, before + rank); ++number) {
            multiply_a(static_cast<float *>(result->data), span, number - before, result->src[0]);
        }
        before += rank;
    }
}

void add_low_rank(ggml_tensor * product, int thread, int n_threads, void * userdata) {
    const auto & spans = *static_cast<const std::vector<low_rank_span> *>(userdata);
    const auto * low = static_cast<const float *>(product->src[1]->data);
    const int64_t groups = product->ne[0] / outputs_at_once;
    const int64_t begin = thread * groups / n_threads * outputs_at_once;
    const int64_t end = (thread + 1) * groups / n_threads * outputs_at_once;
    for (const low_rank_span & span : spans) {
        if (span.count <= few_columns) {
            add_b_by_rows(product, span, low, begin, end - begin);
            continue;
        }
        for (int64_t row = 0; row < span.count; row += lanes) {
            add_b_by_lanes(product, span, low, row, begin, end - begin);
        }
    }
}

} // namespace

} // namespace alora::graph

void * alora_cpu_function(const char * name) {
    using namespace alora::graph;
    if (std::strcmp(name, low_rank_name) == 0) {
        return reinterpret_cast<void *>(low_rank);
    }
    if (std::strcmp(name, add_low_rank_name) == 0) {
        return reinterpret_cast<void *>(add_low_rank);
    }
    return nullptr;
}

#else

void * alora_cpu_function(const char * /*name*/) {
    return nullptr;
}

#endif
