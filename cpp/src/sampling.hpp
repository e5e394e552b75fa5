// One token from logits, by llama.cpp's samplers.
#pragma once

#include "alora/generation.hpp"

#include "llama.h"

#include <memory>
#include <vector>

namespace alora {

class Sampler {
public:
    Sampler(const GenerationOptions & options, uint32_t seed);

    // `allowed`: bit i % 32 of word i / 32 for token i; empty: every token. Throws BackendError where the logits are
    // not numbers.
    Token sample(const std::vector<float> & logits, const std::vector<uint32_t> & allowed);

private:
    struct Deleter {
        void operator()(llama_sampler * sampler) const { llama_sampler_free(sampler); }
    };
    std::unique_ptr<llama_sampler, Deleter> chain_;
    std::vector<llama_token_data> candidates_;
};

} // namespace alora
