// What the tests share: one small model, contexts that round as little as possible.
#pragma once

#include "alora/alora.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace alora::test {

inline std::string model_path() {
    const char * named = std::getenv("ALORA_TEST_MODEL"); // NOLINT(concurrency-mt-unsafe): nobody sets it
    return named == nullptr ? ALORA_DEFAULT_MODEL : named;
}

// What the environment says, as it does to the Python tests.
inline float from_environment(const char * name, float otherwise) {
    const char * value = std::getenv(name); // NOLINT(concurrency-mt-unsafe): nobody sets it
    return value == nullptr ? otherwise : std::strtof(value, nullptr);
}

// Loaded once for all tests.
inline const std::shared_ptr<const Model> & model() {
    static const std::shared_ptr<const Model> loaded = [] {
        ModelOptions options;
        options.n_gpu_layers = static_cast<int>(from_environment("ALORA_TEST_GPU_LAYERS", -1.0f));
        return Model::load(model_path(), options);
    }();
    return loaded;
}

inline std::shared_ptr<Context> open_context(int n_ctx = 512, int n_branches = 64, int n_ubatch = 64) {
    ContextOptions options;
    options.n_ctx = n_ctx;
    options.n_branches = n_branches;
    options.n_ubatch = n_ubatch;
    options.n_threads = 1;
    options.kv_type = "f32";
    options.flash_attention = "off";
    return Context::create(model(), options);
}

// Tokens that depend on the seed and are no control tokens of any usual vocabulary.
inline std::vector<Token> some_tokens(int count, unsigned seed = 1) {
    std::vector<Token> tokens;
    unsigned state = seed * 2654435761U + 12345U;
    while (static_cast<int>(tokens.size()) < count) {
        state = state * 1664525U + 1013904223U;
        const auto token = static_cast<Token>(state >> 8U) % model()->n_vocab();
        if (!model()->is_control(token)) {
            tokens.push_back(token);
        }
    }
    return tokens;
}

// The largest difference; a NaN is infinitely far.
inline float distance(const std::vector<float> & left, const std::vector<float> & right) {
    REQUIRE(left.size() == right.size());
    float largest = 0.0f;
    for (size_t i = 0; i < left.size(); ++i) {
        const float difference = std::abs(left[i] - right[i]);
        largest = std::isnan(difference) ? std::numeric_limits<float>::infinity() : std::max(largest, difference);
    }
    return largest;
}

// Logits of the last row in a context of its own.
inline std::vector<float> fresh_logits(const std::vector<Token> & tokens) {
    const auto context = open_context(std::max(256, static_cast<int>(tokens.size())));
    const auto branch = context->branch();
    branch->append(tokens);
    context->decode();
    return branch->logits();
}

// Quantized weights and other batch sizes round differently: by up to 0.44 with AVX2 kernels, on a GPU by more. Logits
// of other rows are 19 and more apart.
inline const float close = from_environment("ALORA_TEST_TOLERANCE", 0.6f);

} // namespace alora::test
