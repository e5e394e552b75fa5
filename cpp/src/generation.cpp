#include "alora/generation.hpp"

#include "alora/error.hpp"
#include "branch_handle.hpp"
#include "model_handle.hpp"
#include "sampling.hpp"
#include "text.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>

namespace alora {

namespace {

struct Stream {
    std::shared_ptr<Branch> branch;
    Sampler sampler;
    std::string held;              // bytes that cannot be shown yet
    std::vector<uint32_t> allowed; // a mask for the next token; empty: every one
    int n_tokens = 0;
    FinishReason finish = FinishReason::none;
};

void check_options(const GenerationOptions & options) {
    const auto check = [](const char * name, double value, double low, double high) {
        if (!(value >= low && value <= high)) {
            throw ArgumentError(std::string(name) + " is " + std::to_string(value) + ", expected " +
                                std::to_string(low) + " to " + std::to_string(high));
        }
    };
    check("max_tokens", options.max_tokens, 1, 1 << 30);
    check("temperature", options.temperature, 0.0, 100.0);
    check("top_k", options.top_k, 0, 1 << 30);
    check("top_p", options.top_p, 0.0, 1.0);
    check("min_p", options.min_p, 0.0, 1.0);
    for (const std::string & stop : options.stop) {
        if (stop.empty()) {
            throw ArgumentError("a stop string is empty; leave it out");
        }
    }
}

// Bytes at the end of `text` that could become one of the stop strings.
size_t stop_prefix(const std::string & text, const std::vector<std::string> & stops) {
    size_t longest = 0;
    for (const std::string & stop : stops) {
        for (size_t n = std::min(stop.size() - 1, text.size()); n > longest; --n) {
            if (text.compare(text.size() - n, n, stop, 0, n) == 0) {
                longest = n;
            }
        }
    }
    return longest;
}

size_t find_stop(const std::string & text, const std::vector<std::string> & stops) {
    size_t first = std::string::npos;
    for (const std::string & stop : stops) {
        first = std::min(first, text.find(stop));
    }
    return first;
}

} // namespace

struct Generation::State {
    std::shared_ptr<Context> context;
    GenerationOptions options;
    std::vector<Stream> streams;

    GenerationStep step(int index, Stream & stream, const std::vector<float> & logits) const;
    bool ends(Token token) const;
};

Generation::Generation(std::shared_ptr<Context> context, std::vector<std::shared_ptr<Branch>> branches,
                       const GenerationOptions & options)
    : state_(std::make_unique<State>()) {
    check_options(options);
    context->model()->check_tokens(options.stop_tokens);
    uint32_t seed = options.seed;
    for (auto & branch : branches) {
        if (branch->handle().context.get() != &context->state()) {
            throw ArgumentError("a branch of another context was given; a generation runs on branches of one context");
        }
        if (branch->length() == 0) {
            throw ArgumentError("a branch without rows cannot generate; append a prompt first");
        }
        state_->streams.push_back({std::move(branch), Sampler(options, seed++), {}, {}, 0, FinishReason::none});
    }
    state_->context = std::move(context);
    state_->options = options;
}

Generation::~Generation() = default;

bool Generation::State::ends(Token token) const {
    const auto & stops = options.stop_tokens;
    return llama_vocab_is_eog(context->model()->handle().vocab, token) ||
           std::find(stops.begin(), stops.end(), token) != stops.end();
}

GenerationStep Generation::State::step(int index, Stream & stream, const std::vector<float> & logits) const {
    GenerationStep made;
    made.index = index;
    made.token = stream.sampler.sample(logits, stream.allowed);
    stream.allowed.clear();
    ++stream.n_tokens;
    if (ends(made.token)) {
        stream.finish = FinishReason::stop;
    } else {
        stream.branch->append({made.token});
        stream.held += context->model()->piece(made.token);
    }
    size_t shown = find_stop(stream.held, options.stop);
    if (shown != std::string::npos) {
        stream.finish = FinishReason::stop;
    } else {
        shown = stream.held.size();
        if (stream.finish == FinishReason::none && stream.n_tokens >= options.max_tokens) {
            stream.finish = FinishReason::length;
        }
        if (stream.finish == FinishReason::none) {
            shown -= stop_prefix(stream.held, options.stop);
        }
    }
    made.text = take_utf8(stream.held, shown, stream.finish != FinishReason::none);
    made.finish = stream.finish;
    return made;
}

std::vector<GenerationStep> Generation::next() {
    std::vector<std::pair<int, std::vector<float>>> waiting;
    for (size_t i = 0; i < state_->streams.size(); ++i) {
        const Stream & stream = state_->streams[i];
        if (stream.finish == FinishReason::none) {
            if (stream.branch->n_queued() > 0) {
                state_->context->decode();
            }
            waiting.emplace_back(static_cast<int>(i), stream.branch->logits());
            // What a model writes calls none of its built-in adapters.
            for (const BuiltInAdapter & one : state_->context->model()->built_in_adapters()) {
                waiting.back().second[static_cast<size_t>(one.control_token)] = -std::numeric_limits<float>::infinity();
            }
        }
    }
    const int n_free = state_->context->n_ctx() - state_->context->n_cells_used();
    if (static_cast<size_t>(std::max(0, n_free)) < waiting.size()) {
        throw ContextFullError("the context's " + std::to_string(state_->context->n_ctx()) +
                               " cells are used up; close branches, or make the context with a larger n_ctx");
    }
    std::vector<GenerationStep> steps;
    steps.reserve(waiting.size());
    for (const auto & [index, logits] : waiting) {
        steps.push_back(state_->step(index, state_->streams[static_cast<size_t>(index)], logits));
    }
    return steps;
}

void Generation::restrict_next(int index, std::vector<uint32_t> allowed) {
    if (index < 0 || static_cast<size_t>(index) >= state_->streams.size()) {
        throw ArgumentError("there is no branch " + std::to_string(index) + " in this generation of " +
                            std::to_string(state_->streams.size()));
    }
    const auto n_vocab = static_cast<size_t>(state_->context->model()->n_vocab());
    if (allowed.size() != (n_vocab + 31) / 32) {
        throw ArgumentError("the mask has " + std::to_string(allowed.size()) + " words, expected " +
                            std::to_string((n_vocab + 31) / 32) + " for a vocabulary of " + std::to_string(n_vocab));
    }
    if (n_vocab % 32 != 0) {
        allowed.back() &= (1U << n_vocab % 32) - 1U; // bits that stand for no token
    }
    if (std::all_of(allowed.begin(), allowed.end(), [](uint32_t word) { return word == 0; })) {
        throw ArgumentError("the mask allows no token");
    }
    state_->streams[static_cast<size_t>(index)].allowed = std::move(allowed);
}

} // namespace alora
