// Generation through the C interface.
#include "support.hpp"

#include <algorithm>
#include <stdexcept>

namespace {

const std::string prompt = std::string(question) + "<|start_of_role|>assistant<|end_of_role|>";

struct Written {
    std::string text;
    std::vector<alora_token> tokens;
    alora_finish finish = ALORA_FINISH_NONE;
    size_t stop_after = 1000;
    bool throws = false;
};

alora_next write_down(const alora_generation_step * step, void * user_data) {
    auto & written = *static_cast<Written *>(user_data);
    written.text.append(step->text, step->text_size);
    written.tokens.push_back(step->token);
    written.finish = step->finish;
    CHECK(step->index == 0);
    if (written.throws) {
        throw std::runtime_error("the window is gone");
    }
    return written.tokens.size() >= written.stop_after ? ALORA_STOP : ALORA_GO_ON;
}

Owned<alora_generation> begin(alora_context * context, alora_branch * branch,
                              const alora_generation_options * options = nullptr) {
    alora_generation * generation = nullptr;
    OK(alora_generation_create(context, &branch, 1, options, &generation, error.out()));
    return Owned<alora_generation>(generation);
}

alora_generation_options default_options() {
    alora_generation_options options;
    OK(alora_generation_options_init(&options, sizeof(options), error.out()));
    return options;
}

Written whole_reply() {
    Written written;
    const auto context = open_context();
    const auto branch = open_branch(context.get(), prompt);
    const auto generation = begin(context.get(), branch.get());
    OK(alora_generation_run(generation.get(), write_down, &written, error.out()));
    return written;
}

} // namespace

TEST_CASE("a reply is streamed and stands on its branch") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), prompt);
    const int32_t before = info_of(branch.get()).length;
    const auto generation = begin(context.get(), branch.get());
    Written written;
    OK(alora_generation_run(generation.get(), write_down, &written, error.out()));
    CHECK(written.finish == ALORA_FINISH_STOP);
    CHECK_FALSE(written.text.empty());
    // All but the end of generation.
    CHECK(info_of(branch.get()).length == before + static_cast<int32_t>(written.tokens.size()) - 1);
    size_t n = 1;
    OK(alora_generation_next(generation.get(), write_down, &written, &n, error.out()));
    CHECK(n == 0);
}

TEST_CASE("a callback that stops: the token is kept, and the reply can go on") {
    const Written whole = whole_reply();
    REQUIRE(whole.tokens.size() > 4);
    const auto context = open_context();
    const auto branch = open_branch(context.get(), prompt);
    const int32_t before = info_of(branch.get()).length;
    const auto generation = begin(context.get(), branch.get());
    Written written;
    written.stop_after = 3;
    FAILS(ALORA_ERROR_CANCELLED, "stopped", alora_generation_run(generation.get(), write_down, &written, error.out()));
    CHECK(written.tokens.size() == 3);
    CHECK(info_of(branch.get()).length == before + 3);
    written.stop_after = 1000;
    OK(alora_generation_run(generation.get(), write_down, &written, error.out()));
    CHECK(written.text == whole.text);
    CHECK(written.tokens == whole.tokens);
}

TEST_CASE("a callback that throws does no harm") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), prompt);
    const auto generation = begin(context.get(), branch.get());
    Written written;
    written.throws = true;
    FAILS(ALORA_ERROR_UNEXPECTED, "the window is gone",
          alora_generation_run(generation.get(), write_down, &written, error.out()));
    written.throws = false;
    OK(alora_generation_run(generation.get(), write_down, &written, error.out()));
    CHECK(written.text == whole_reply().text);
}

TEST_CASE("a cancelled context stops a generation, which can go on") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), prompt);
    const auto generation = begin(context.get(), branch.get());
    OK(alora_context_cancel(context.get(), error.out()));
    FAILS(ALORA_ERROR_CANCELLED, "", alora_generation_run(generation.get(), nullptr, nullptr, error.out()));
    Written written;
    OK(alora_generation_run(generation.get(), write_down, &written, error.out()));
    CHECK(written.text == whole_reply().text);
}

TEST_CASE("options: how long, where to stop, which tokens") {
    const Written whole = whole_reply();
    const auto written_with = [&](const alora_generation_options & options) {
        Written written;
        const auto context = open_context();
        const auto branch = open_branch(context.get(), prompt);
        const auto generation = begin(context.get(), branch.get(), &options);
        OK(alora_generation_run(generation.get(), write_down, &written, error.out()));
        return written;
    };
    alora_generation_options options = default_options();
    options.max_tokens = 2;
    CHECK(written_with(options).tokens.size() == 2);
    CHECK(written_with(options).finish == ALORA_FINISH_LENGTH);

    options = default_options();
    const std::string word = whole.text.substr(4, 3);
    const char * const stops[] = {"\x01 never", word.c_str()};
    options.stop = stops;
    options.n_stop = 2;
    CHECK(written_with(options).text == whole.text.substr(0, whole.text.find(word)));

    options = default_options();
    options.stop_tokens = &whole.tokens[2];
    options.n_stop_tokens = 1;
    const auto first = std::find(whole.tokens.begin(), whole.tokens.end(), whole.tokens[2]);
    CHECK(written_with(options).tokens.size() == static_cast<size_t>(first - whole.tokens.begin()) + 1);

    options = default_options();
    options.temperature = 1.0f;
    options.top_k = 20;
    options.top_p = 0.9f;
    options.min_p = 0.01f;
    options.seed = 7;
    CHECK(written_with(options).text == written_with(options).text);
}

TEST_CASE("a mask decides the next token") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), prompt);
    const auto generation = begin(context.get(), branch.get());
    alora_model_info info;
    OK(alora_model_get_info(model(), &info, sizeof(info), error.out()));
    std::vector<uint32_t> mask((static_cast<size_t>(info.n_vocab) + 31) / 32);
    FAILS(ALORA_ERROR_ARGUMENT, "allows no token",
          alora_generation_restrict_next(generation.get(), 0, mask.data(), mask.size(), error.out()));
    const alora_token only = tokens_of("Y").front();
    mask[static_cast<size_t>(only) / 32] = 1U << (static_cast<unsigned>(only) % 32U);
    FAILS(ALORA_ERROR_ARGUMENT, "words",
          alora_generation_restrict_next(generation.get(), 0, mask.data(), mask.size() - 1, error.out()));
    OK(alora_generation_restrict_next(generation.get(), 0, mask.data(), mask.size(), error.out()));
    Written written;
    OK(alora_generation_next(generation.get(), write_down, &written, nullptr, error.out()));
    CHECK(written.tokens == std::vector<alora_token>{only});
}

TEST_CASE("what cannot generate") {
    const auto context = open_context();
    const auto empty = open_branch(context.get());
    alora_branch * branch = empty.get();
    alora_generation * generation = nullptr;
    FAILS(ALORA_ERROR_ARGUMENT, "without rows",
          alora_generation_create(context.get(), &branch, 1, nullptr, &generation, error.out()));
    const auto full = open_branch(context.get(), prompt);
    branch = full.get();
    alora_generation_options options = default_options();
    options.max_tokens = 0;
    FAILS(ALORA_ERROR_ARGUMENT, "max_tokens",
          alora_generation_create(context.get(), &branch, 1, &options, &generation, error.out()));
    options = default_options();
    options.n_stop = 1;
    FAILS(ALORA_ERROR_ARGUMENT, "stop is NULL",
          alora_generation_create(context.get(), &branch, 1, &options, &generation, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "branches is NULL",
          alora_generation_create(context.get(), nullptr, 1, nullptr, &generation, error.out()));
    branch = nullptr;
    FAILS(ALORA_ERROR_ARGUMENT, "branch is NULL",
          alora_generation_create(context.get(), &branch, 1, nullptr, &generation, error.out()));
    CHECK(generation == nullptr);
}
