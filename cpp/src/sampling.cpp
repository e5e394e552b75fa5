#include "sampling.hpp"

#include "alora/error.hpp"

#include <cmath>

namespace alora {

Sampler::Sampler(const GenerationOptions & options, uint32_t seed)
    : chain_(llama_sampler_chain_init(llama_sampler_chain_default_params())) {
    llama_sampler * chain = chain_.get();
    if (options.temperature == 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return;
    }
    if (options.top_k > 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(options.top_k));
    }
    if (options.top_p < 1.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(options.top_p, 1));
    }
    if (options.min_p > 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_min_p(options.min_p, 1));
    }
    llama_sampler_chain_add(chain, llama_sampler_init_temp(options.temperature));
    // One seed means a random one to llama.cpp: here, every seed means itself.
    llama_sampler_chain_add(chain, llama_sampler_init_dist(seed == LLAMA_DEFAULT_SEED ? 0 : seed));
}

Token Sampler::sample(const std::vector<float> & logits, const std::vector<uint32_t> & allowed) {
    candidates_.clear();
    for (size_t i = 0; i < logits.size(); ++i) {
        if (std::isnan(logits[i])) {
            throw BackendError("the model's logits are not numbers; are its weights or an adapter's scale broken?");
        }
        if (allowed.empty() || (allowed[i / 32] >> (i % 32) & 1U) != 0) {
            candidates_.push_back({static_cast<Token>(i), logits[i], 0.0f});
        }
    }
    llama_token_data_array candidates = {candidates_.data(), candidates_.size(), -1, false};
    llama_sampler_apply(chain_.get(), &candidates);
    const Token token = candidates.data[candidates.selected].id;
    llama_sampler_accept(chain_.get(), token);
    return token;
}

} // namespace alora
