// B(Ax) for few rows under any number of adapters, on the CPU: one operation makes A x of all of them, another adds
// their B.
//
// As operations of ggml each adapter brings five to every projection, and threads wait for one another at each: eight
// adapters in a check cost more in waiting than in numbers.
#pragma once

#include <cstdint>

struct ggml_tensor;

namespace alora::graph {

// An adapter's rows. A is [inputs, rank] and B is [rank, outputs], in F16 or F32.
struct low_rank_span {
    const ggml_tensor * a;
    const ggml_tensor * b;
    float scale;
    int64_t first;
    int64_t count;
    int64_t at; // where its A x begins in the vector of them all: rank numbers for each row
};

constexpr int64_t largest_fused_rank = 128;
constexpr int64_t outputs_at_once = 8; // a projection's outputs are a multiple of it, as packed_product.hpp asks

// Which functions compute them, as ggml's operations of one's own; the last argument is a std::vector<low_rank_span>.
using low_rank_function = void(ggml_tensor * result, int thread, int n_threads, void * spans);

constexpr const char * low_rank_name = "alora_low_rank";
constexpr const char * add_low_rank_name = "alora_add_low_rank";

} // namespace alora::graph

// The function of that name, or null: the CPU backend's registry asks.
void * alora_cpu_function(const char * name);
