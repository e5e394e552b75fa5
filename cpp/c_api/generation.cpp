#include "alora/generation.hpp"

#include "handles.hpp"
#include "structures.hpp"

#include <memory>
#include <utility>
#include <vector>

using namespace alora::c;

namespace {

alora_generation_options default_options() {
    const alora::GenerationOptions defaults;
    alora_generation_options options = {};
    options.struct_size = sizeof(options);
    options.max_tokens = defaults.max_tokens;
    options.temperature = defaults.temperature;
    options.top_k = defaults.top_k;
    options.top_p = defaults.top_p;
    options.min_p = defaults.min_p;
    options.seed = defaults.seed;
    return options;
}

alora::GenerationOptions options_of(const alora_generation_options * options) {
    const alora_generation_options asked = read_options(options, default_options(), "alora_generation_options");
    alora::GenerationOptions wanted;
    wanted.max_tokens = asked.max_tokens;
    wanted.temperature = asked.temperature;
    wanted.top_k = asked.top_k;
    wanted.top_p = asked.top_p;
    wanted.min_p = asked.min_p;
    wanted.seed = asked.seed;
    for (size_t i = 0; i < asked.n_stop; ++i) {
        wanted.stop.emplace_back(&given((&given(asked.stop, "stop"))[i], "stop"));
    }
    wanted.stop_tokens = tokens_of(asked.stop_tokens, asked.n_stop_tokens);
    return wanted;
}

alora::Generation & of(const alora_generation * generation) {
    return *given(generation, "generation").generation;
}

alora_finish finish_of(alora::FinishReason finish) {
    switch (finish) {
    case alora::FinishReason::stop:
        return ALORA_FINISH_STOP;
    case alora::FinishReason::length:
        return ALORA_FINISH_LENGTH;
    default:
        return ALORA_FINISH_NONE;
    }
}

// One pass. The rows of all its steps are on their branches already, so all are told before a callback's stop counts.
size_t advance(alora::Generation & generation, alora_token_callback callback, void * user_data) {
    const std::vector<alora::GenerationStep> steps = generation.next();
    bool stop = false;
    for (const alora::GenerationStep & one : steps) {
        if (callback != nullptr) {
            const alora_generation_step step = {one.text.c_str(), one.text.size(), one.index, one.token,
                                                finish_of(one.finish)};
            stop = callback(&step, user_data) != ALORA_GO_ON || stop;
        }
    }
    if (stop) {
        throw alora::Cancelled("the token callback stopped the generation");
    }
    return steps.size();
}

} // namespace

alora_status alora_generation_options_init(alora_generation_options * options, size_t struct_size,
                                           alora_error ** error) {
    return call(error, [&] { init_options(options, struct_size, default_options(), "alora_generation_options"); });
}

alora_status alora_generation_create(alora_context * context, alora_branch * const * branches, size_t n_branches,
                                     const alora_generation_options * options, alora_generation ** generation,
                                     alora_error ** error) {
    return call(error, [&] {
        cleared(generation, "generation");
        std::vector<std::shared_ptr<alora::Branch>> on;
        on.reserve(n_branches);
        for (size_t i = 0; i < n_branches; ++i) {
            on.push_back(given((&given(branches, "branches"))[i], "branch").branch);
        }
        auto handle = std::make_unique<alora_generation>();
        handle->generation =
            std::make_unique<alora::Generation>(given(context, "context").context, std::move(on), options_of(options));
        *generation = handle.release();
    });
}

alora_status alora_generation_next(alora_generation * generation, alora_token_callback callback, void * user_data,
                                   size_t * n_steps, alora_error ** error) {
    return call(error, [&] {
        size_t unasked = 0;
        size_t & n = n_steps == nullptr ? unasked : *n_steps;
        n = 0;
        n = advance(of(generation), callback, user_data);
    });
}

alora_status alora_generation_run(alora_generation * generation, alora_token_callback callback, void * user_data,
                                  alora_error ** error) {
    return call(error, [&] {
        while (advance(of(generation), callback, user_data) > 0) {
        }
    });
}

alora_status alora_generation_restrict_next(alora_generation * generation, int32_t index, const uint32_t * allowed,
                                            size_t n_words, alora_error ** error) {
    return call(error, [&] {
        given(allowed, "allowed");
        of(generation).restrict_next(index, {allowed, allowed + n_words});
    });
}

void alora_generation_free(alora_generation * generation) {
    delete generation;
}
