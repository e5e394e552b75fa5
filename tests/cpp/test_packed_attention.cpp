// Attention through ggml's operation, which our kernel computes, against plain sums in double precision.
#include <doctest/doctest.h>

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <vector>

namespace {

struct Sizes {
    int64_t key_size;
    int64_t value_size;
    int64_t n_heads;
    int64_t n_key_heads;
    int64_t n_rows;
    int64_t n_keys;
    ggml_type type = GGML_TYPE_F16;
};

constexpr float hidden = -std::numeric_limits<float>::infinity();

struct Inputs {
    std::vector<float> q;    // [rows, heads, key_size]
    std::vector<float> k;    // [keys, key heads, key_size]
    std::vector<float> v;    // [keys, key heads, value_size]
    std::vector<float> mask; // [rows, keys]
};

std::vector<float> drawn(std::mt19937 & random, int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    std::generate(values.begin(), values.end(), [&] { return normal(random); });
    return values;
}

// Like branches of one trunk: all see the same start, some keys in the middle are nobody's, and the end is mixed.
Inputs inputs_of(const Sizes & s, unsigned seed) {
    std::mt19937 random(seed);
    Inputs in;
    in.q = drawn(random, s.n_rows * s.n_heads * s.key_size);
    in.k = drawn(random, s.n_keys * s.n_key_heads * s.key_size);
    in.v = drawn(random, s.n_keys * s.n_key_heads * s.value_size);
    for (auto * values : {&in.k, &in.v}) {
        for (float & value : *values) { // what a cache of 16 bits can hold
            value = ggml_fp16_to_fp32(ggml_fp32_to_fp16(value));
        }
    }
    for (int64_t row = 0; row < s.n_rows; ++row) {
        for (int64_t key = 0; key < s.n_keys; ++key) {
            const int64_t tenth = 10 * key / s.n_keys;
            const bool seen = tenth < 4 || (tenth > 6 && random() % 3 != 0);
            in.mask.push_back(seen ? 0.0F : hidden);
        }
    }
    return in;
}

double weight_of(const Sizes & s, const Inputs & in, int64_t row, int64_t head, int64_t key) {
    const float * q = &in.q[static_cast<size_t>((row * s.n_heads + head) * s.key_size)];
    const int64_t key_head = head / (s.n_heads / s.n_key_heads);
    const float * k = &in.k[static_cast<size_t>((key * s.n_key_heads + key_head) * s.key_size)];
    double sum = 0.0;
    for (int64_t d = 0; d < s.key_size; ++d) {
        sum += static_cast<double>(q[d]) * k[d];
    }
    return std::exp(sum / std::sqrt(static_cast<double>(s.key_size)) +
                    in.mask[static_cast<size_t>(row * s.n_keys + key)]);
}

// [rows, heads, value_size]; zeros for a row that sees nothing.
std::vector<double> plainly(const Sizes & s, const Inputs & in) {
    std::vector<double> out;
    for (int64_t row = 0; row < s.n_rows; ++row) {
        for (int64_t head = 0; head < s.n_heads; ++head) {
            std::vector<double> sums(static_cast<size_t>(s.value_size));
            double total = 0.0;
            for (int64_t key = 0; key < s.n_keys; ++key) {
                const double weight = weight_of(s, in, row, head, key);
                const int64_t at = (key * s.n_key_heads + head / (s.n_heads / s.n_key_heads)) * s.value_size;
                total += weight;
                for (int64_t d = 0; d < s.value_size; ++d) {
                    sums[static_cast<size_t>(d)] += weight * static_cast<double>(in.v[static_cast<size_t>(at + d)]);
                }
            }
            for (const double sum : sums) {
                out.push_back(total > 0.0 ? sum / total : 0.0);
            }
        }
    }
    return out;
}

void fill(ggml_tensor * tensor, const std::vector<float> & values) {
    if (tensor->type == GGML_TYPE_F32) {
        ggml_backend_tensor_set(tensor, values.data(), 0, values.size() * sizeof(float));
        return;
    }
    std::vector<ggml_fp16_t> halves(values.size());
    ggml_fp32_to_fp16_row(values.data(), halves.data(), static_cast<int64_t>(values.size()));
    ggml_backend_tensor_set(tensor, halves.data(), 0, halves.size() * sizeof(ggml_fp16_t));
}

// The operation as llama.cpp builds it: heads lie within a token, and are turned outwards.
std::vector<float> attend(const Sizes & s, const Inputs & in, int n_threads, float cap = 0.0F) {
    const std::unique_ptr<ggml_backend, decltype(&ggml_backend_free)> backend(ggml_backend_cpu_init(),
                                                                              ggml_backend_free);
    ggml_backend_cpu_set_n_threads(backend.get(), n_threads);
    const ggml_init_params params = {ggml_tensor_overhead() * 32 + ggml_graph_overhead(), nullptr, true};
    const std::unique_ptr<ggml_context, decltype(&ggml_free)> ctx(ggml_init(params), ggml_free);
    ggml_tensor * q = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, s.key_size, s.n_heads, s.n_rows);
    ggml_tensor * k = ggml_new_tensor_3d(ctx.get(), s.type, s.key_size, s.n_key_heads, s.n_keys);
    ggml_tensor * v = ggml_new_tensor_3d(ctx.get(), s.type, s.value_size, s.n_key_heads, s.n_keys);
    ggml_tensor * mask = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F16, s.n_keys, s.n_rows);
    ggml_tensor * out = ggml_flash_attn_ext(
        ctx.get(), ggml_permute(ctx.get(), q, 0, 2, 1, 3), ggml_permute(ctx.get(), k, 0, 2, 1, 3),
        ggml_permute(ctx.get(), v, 0, 2, 1, 3), mask, 1.0F / std::sqrt(static_cast<float>(s.key_size)), 0.0F, cap);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    ggml_cgraph * graph = ggml_new_graph(ctx.get());
    ggml_build_forward_expand(graph, out);
    const std::unique_ptr<ggml_backend_buffer, decltype(&ggml_backend_buffer_free)> buffer(
        ggml_backend_alloc_ctx_tensors(ctx.get(), backend.get()), ggml_backend_buffer_free);
    fill(q, in.q);
    fill(k, in.k);
    fill(v, in.v);
    fill(mask, in.mask);
    REQUIRE(ggml_backend_graph_compute(backend.get(), graph) == GGML_STATUS_SUCCESS);
    std::vector<float> found(static_cast<size_t>(ggml_nelements(out)));
    ggml_backend_tensor_get(out, found.data(), 0, ggml_nbytes(out));
    return found;
}

double furthest(const std::vector<float> & found, const std::vector<double> & expected) {
    REQUIRE(found.size() == expected.size());
    double worst = 0.0;
    for (size_t i = 0; i < found.size(); ++i) {
        // Not std::max, which a NaN would slip through.
        const double off = std::abs(static_cast<double>(found[i]) - expected[i]);
        worst = off <= worst ? worst : off;
    }
    return worst;
}

} // namespace

TEST_CASE("attention is what plain sums give, whatever the shape and however many threads") {
    const std::vector<Sizes> shapes = {
        {64, 64, 32, 8, 8, 512},                 // eight branches of one row
        {64, 64, 8, 8, 1, 768},                  // one row, no heads share keys
        {128, 128, 12, 4, 3, 256},               // three heads share keys
        {32, 32, 8, 4, 40, 320},                 // several blocks of rows, the last one not full
        {64, 32, 4, 2, 5, 288},                  // values are narrower than keys
        {32, 32, 71, 1, 2, 256},                 // more heads share keys than a block has columns
        {80, 80, 10, 5, 7, 256},                 // no power of two
        {64, 64, 16, 2, 9, 1024, GGML_TYPE_F32}, // a cache in 32 bits
    };
    for (const Sizes & s : shapes) {
        const Inputs in = inputs_of(s, 7);
        const std::vector<double> expected = plainly(s, in);
        for (const int n_threads : {1, 2, 5}) {
            CAPTURE(s.n_heads);
            CAPTURE(s.n_rows);
            CAPTURE(n_threads);
            CHECK(furthest(attend(s, in, n_threads), expected) < 1e-5);
        }
    }
}

TEST_CASE("a row that sees nothing gets zeros, and one that sees one key gets its value") {
    const Sizes s = {32, 32, 4, 2, 3, 256};
    Inputs in = inputs_of(s, 8);
    std::fill(in.mask.begin(), in.mask.begin() + 2 * s.n_keys, hidden);
    in.mask[static_cast<size_t>(s.n_keys + 100)] = 0.0F;
    const std::vector<double> expected = plainly(s, in);
    for (const int n_threads : {1, 4}) {
        const std::vector<float> found = attend(s, in, n_threads);
        CHECK(furthest(found, expected) < 1e-5);
        CHECK(found.front() == 0.0F);
        const auto value = static_cast<size_t>(100 * s.n_key_heads * s.value_size);
        CHECK(found[static_cast<size_t>(s.n_heads * s.value_size)] == in.v[value]);
    }
}

TEST_CASE("high scores do not overflow") {
    const Sizes s = {64, 64, 4, 1, 2, 256};
    Inputs in = inputs_of(s, 9);
    for (float & value : in.q) {
        value *= 30.0F;
    }
    CHECK(furthest(attend(s, in, 2), plainly(s, in)) < 1e-3);
}

TEST_CASE("a row gets to the bit what it would get alone") {
    const Sizes s = {64, 64, 8, 2, 6, 512};
    const Inputs in = inputs_of(s, 10);
    const std::vector<float> together = attend(s, in, 1);
    Sizes one = s;
    one.n_rows = 1;
    const auto row_queries = s.n_heads * s.key_size;
    const auto row_values = static_cast<size_t>(s.n_heads * s.value_size);
    for (int64_t row = 0; row < s.n_rows; ++row) {
        Inputs own = in;
        own.q.assign(in.q.begin() + row * row_queries, in.q.begin() + (row + 1) * row_queries);
        own.mask.assign(in.mask.begin() + row * s.n_keys, in.mask.begin() + (row + 1) * s.n_keys);
        const std::vector<float> alone = attend(one, own, 1);
        CHECK(std::equal(alone.begin(), alone.end(),
                         together.begin() + static_cast<int64_t>(static_cast<size_t>(row) * row_values)));
    }
}

TEST_CASE("what the kernel does not know is left to ggml") {
    const Sizes s = {32, 32, 4, 2, 3, 256};
    const Inputs in = inputs_of(s, 11);
    const std::vector<float> capped = attend(s, in, 2, 50.0F);
    // A cap far above all scores changes them little.
    CHECK(furthest(capped, plainly(s, in)) < 0.05);
    Sizes odd = s;
    odd.n_keys = 200; // no multiple of a tile
    const Inputs few = inputs_of(odd, 12);
    CHECK(furthest(attend(odd, few, 2), plainly(odd, few)) < 1e-2); // ggml sums in 16 bits
}
