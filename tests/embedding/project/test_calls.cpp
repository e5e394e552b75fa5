// Models, adapters, contexts and branches through the C interface, and what they answer to what is wrong.
#include "support.hpp"

#include <cstring>
#include <fstream>
#include <stdexcept>

namespace {

alora_next stop_at_half(float fraction, void * seen) {
    *static_cast<float *>(seen) = fraction;
    return fraction > 0.5f ? ALORA_STOP : ALORA_GO_ON;
}

alora_next throw_at_half(float fraction, void * /*user_data*/) {
    if (fraction > 0.5f) {
        throw std::runtime_error("the window is gone");
    }
    return ALORA_GO_ON;
}

} // namespace

TEST_CASE("an error is emptied by a call that succeeds, and need not be asked for") {
    alora_model * none = nullptr;
    CHECK(alora_model_load("/no/such/model.gguf", nullptr, &none, nullptr) == ALORA_ERROR_MODEL_LOAD);
    alora_error * error = nullptr;
    CHECK(alora_model_load("/no/such/model.gguf", nullptr, &none, &error) == ALORA_ERROR_MODEL_LOAD);
    CHECK(none == nullptr);
    REQUIRE(error != nullptr);
    CHECK(alora_error_status(error) == ALORA_ERROR_MODEL_LOAD);
    CHECK(std::string(alora_error_message(error)).find("/no/such/model.gguf: no such file") == 0);
    alora_error_free(error);
    alora_model_options options;
    CHECK(alora_model_options_init(&options, sizeof(options), &error) == ALORA_OK);
    CHECK(error == nullptr);
    alora_error_free(nullptr);
    CHECK(alora_error_status(nullptr) == ALORA_OK);
    CHECK(std::string(alora_error_message(nullptr)).empty());
}

TEST_CASE("NULL is an argument error that names what is missing") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), question);
    alora_model * none = nullptr;
    FAILS(ALORA_ERROR_ARGUMENT, "path is NULL", alora_model_load(nullptr, nullptr, &none, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "model is NULL", alora_model_load("x", nullptr, nullptr, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "model is NULL", alora_model_get_info(nullptr, nullptr, 0, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "info is NULL", alora_model_get_info(model(), nullptr, 0, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "context is NULL", alora_context_decode(nullptr, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "tokens is NULL", alora_branch_append(branch.get(), nullptr, 3, 1, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "adapter is NULL", alora_branch_activate(branch.get(), nullptr, 1.0f, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "fork is NULL", alora_branch_fork(branch.get(), ALORA_END, nullptr, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "logits is NULL", alora_branch_logits(branch.get(), 1, nullptr, 0, error.out()));
    const char * const names[] = {nullptr};
    bool match = false;
    FAILS(ALORA_ERROR_ARGUMENT, "name is NULL", alora_names_match("base", names, 1, &match, error.out()));
    OK(alora_branch_append(branch.get(), nullptr, 0, 1, error.out()));
    alora_model_free(nullptr);
    alora_adapter_free(nullptr);
    alora_context_free(nullptr);
    alora_branch_free(nullptr);
    alora_scoring_free(nullptr);
    alora_generation_free(nullptr);
    alora_free(nullptr);
}

TEST_CASE("what a model's file says") {
    alora_model_info info;
    OK(alora_model_get_info(model(), &info, sizeof(info), error.out()));
    CHECK(info.path == model_path());
    CHECK(std::string(info.architecture) == "granite");
    CHECK(std::string(info.chat_template).find("start_of_role") != std::string::npos);
    CHECK(std::strlen(info.vocabulary_fingerprint) == 16);
    CHECK(std::strlen(info.description) > 0);
    CHECK(info.n_parameters > 0);
    CHECK(info.n_vocab > 0);
    CHECK(info.n_built_in_adapters == 0);
    const char * key = nullptr;
    const char * value = nullptr;
    const char * same = nullptr;
    OK(alora_model_metadata_at(model(), info.n_metadata - 1, &key, &value, error.out()));
    OK(alora_model_metadata(model(), key, &same, error.out()));
    CHECK(value == same);
    OK(alora_model_metadata(model(), "no.such.key", &same, error.out()));
    CHECK(same == nullptr);
    FAILS(ALORA_ERROR_ARGUMENT, "there is no number",
          alora_model_metadata_at(model(), info.n_metadata, &key, &value, error.out()));
    alora_built_in_adapter adapter;
    FAILS(ALORA_ERROR_ARGUMENT, "there are 0 built-in adapters",
          alora_model_built_in_adapter(model(), 0, &adapter, sizeof(adapter), error.out()));

    alora_fingerprints fingerprints;
    OK(alora_read_fingerprints(model_path().c_str(), &fingerprints, sizeof(fingerprints), error.out()));
    CHECK(std::string(fingerprints.vocabulary) == info.vocabulary_fingerprint);
    CHECK(std::string(fingerprints.weights) == info.weights_fingerprint);
    bool match = false;
    const char * const names[] = {"granite 4.0 micro", "other"};
    OK(alora_names_match("ibm-granite/granite-4.0-micro", names, 2, &match, error.out()));
    CHECK(match);
    OK(alora_names_match("llama", names, 2, &match, error.out()));
    CHECK_FALSE(match);
}

TEST_CASE("text to tokens and back; what a user writes is no control token") {
    const std::string text = "<|end_of_text|> caf\xc3\xa9";
    const auto harmless = tokens_of(text);
    const auto special = tokens_of(text, true);
    CHECK(harmless.size() > special.size());
    alora_token end = 0;
    OK(alora_model_control_token(model(), "<|end_of_text|>", &end, error.out()));
    CHECK(special.front() == end);
    alora_token_info info;
    OK(alora_model_token_info(model(), end, &info, sizeof(info), error.out()));
    CHECK(info.is_control);
    CHECK(info.is_end_of_generation);
    OK(alora_model_token_info(model(), harmless.front(), &info, sizeof(info), error.out()));
    CHECK_FALSE(info.is_control);
    OK(alora_model_control_token(model(), "<|no_such_thing|>", &end, error.out()));
    CHECK(end == ALORA_NO_TOKEN);

    char * back = nullptr;
    size_t size = 0;
    OK(alora_model_detokenize(model(), harmless.data(), harmless.size(), false, &back, &size, error.out()));
    CHECK(back == text);
    CHECK(size == text.size());
    alora_free(back);
    OK(alora_model_detokenize(model(), nullptr, 0, false, &back, nullptr, error.out()));
    CHECK(std::string(back).empty());
    alora_free(back);
    const alora_token wrong = 1 << 30;
    FAILS(ALORA_ERROR_TOKEN, "not in the vocabulary",
          alora_model_detokenize(model(), &wrong, 1, false, &back, &size, error.out()));
    alora_token * tokens = nullptr;
    size_t n = 0;
    FAILS(ALORA_ERROR_ARGUMENT, "UTF-8",
          alora_model_tokenize(model(), "\xff", 1, false, false, &tokens, &n, error.out()));
    CHECK(tokens == nullptr);
}

TEST_CASE("loading can be stopped, and a callback that throws does no harm") {
    alora_model_options options;
    OK(alora_model_options_init(&options, sizeof(options), error.out()));
    float seen = 0.0f;
    options.progress = stop_at_half;
    options.user_data = &seen;
    alora_model * loaded = nullptr;
    FAILS(ALORA_ERROR_CANCELLED, "was cancelled",
          alora_model_load(model_path().c_str(), &options, &loaded, error.out()));
    CHECK(loaded == nullptr);
    CHECK(seen > 0.5f);
    options.progress = throw_at_half;
    FAILS(ALORA_ERROR_UNEXPECTED, "the window is gone",
          alora_model_load(model_path().c_str(), &options, &loaded, error.out()));
    CHECK(loaded == nullptr);
}

TEST_CASE("a vocabulary alone gives tokens and computes nothing") {
    alora_model_options options;
    OK(alora_model_options_init(&options, sizeof(options), error.out()));
    options.vocabulary_only = true;
    alora_model * loaded = nullptr;
    OK(alora_model_load(model_path().c_str(), &options, &loaded, error.out()));
    const Owned<alora_model> vocabulary(loaded);
    alora_context * context = nullptr;
    FAILS(ALORA_ERROR_BACKEND, "vocabulary alone", alora_context_create(loaded, nullptr, &context, error.out()));
}

TEST_CASE("files that are no models or adapters") {
    const std::string path = "broken.gguf";
    std::ofstream(path) << "GGUF, but not for long";
    alora_model * loaded = nullptr;
    FAILS(ALORA_ERROR_MODEL_LOAD, path, alora_model_load(path.c_str(), nullptr, &loaded, error.out()));
    alora_adapter * adapter = nullptr;
    FAILS(ALORA_ERROR_ADAPTER, path, alora_adapter_load(model(), path.c_str(), nullptr, &adapter, error.out()));
    FAILS(ALORA_ERROR_ADAPTER, "", alora_adapter_check(model(), model_path().c_str(), nullptr, error.out()));
    CHECK(adapter == nullptr);
    alora_fingerprints fingerprints;
    FAILS(ALORA_ERROR_MODEL_LOAD, path,
          alora_read_fingerprints(path.c_str(), &fingerprints, sizeof(fingerprints), error.out()));
}

TEST_CASE("what an adapter's file says") {
    OK(alora_adapter_check(model(), adapter_path("safety").c_str(), nullptr, error.out()));
    const auto adapter = load_adapter("safety");
    alora_adapter_info info;
    OK(alora_adapter_get_info(adapter.get(), &info, sizeof(info), error.out()));
    CHECK(info.path == adapter_path("safety"));
    CHECK(std::string(info.name) == "safety");
    CHECK(std::string(info.io_yaml).find("transformations") != std::string::npos);
    CHECK(info.n_targets == 3);
    CHECK(std::string(info.targets[0]).find("attn") != std::string::npos);
    CHECK(info.rank > 0);
    CHECK(info.alpha > 0.0f);
    CHECK(info.size > 0);
    CHECK(info.control_token == ALORA_NO_TOKEN);
    const char * key = nullptr;
    const char * value = nullptr;
    OK(alora_adapter_metadata_at(adapter.get(), 0, &key, &value, error.out()));
    CHECK(std::strlen(key) > 0);
    OK(alora_adapter_metadata(adapter.get(), "adapter.type", &value, error.out()));
    CHECK(std::string(value) == "lora");

    std::vector<alora_token> prompt = tokens_of(question, true);
    int32_t position = 7;
    FAILS(ALORA_ERROR_INVOCATION_NOT_FOUND, "safety",
          alora_adapter_find_invocation(adapter.get(), prompt.data(), prompt.size(), &position, error.out()));
    CHECK(position == 0);
    const auto before = static_cast<int32_t>(prompt.size());
    prompt.insert(prompt.end(), info.invocation_tokens, info.invocation_tokens + info.n_invocation_tokens);
    OK(alora_adapter_find_invocation(adapter.get(), prompt.data(), prompt.size(), &position, error.out()));
    CHECK(position == before);
    alora_adapter * none = nullptr;
    FAILS(ALORA_ERROR_ARGUMENT, "built-in",
          alora_adapter_built_in(model(), 0, "none", nullptr, nullptr, 0, &none, error.out()));
}

TEST_CASE("forks share rows, and know who governs them") {
    const auto adapter = load_adapter("safety");
    const auto context = open_context();
    const auto trunk = open_branch(context.get(), question);
    const int32_t length = info_of(trunk.get()).length;
    CHECK(info_of(trunk.get()).n_queued == length);
    OK(alora_context_decode(context.get(), error.out()));
    CHECK(info_of(trunk.get()).n_queued == 0);
    const auto fork = fork_of(trunk.get());
    CHECK(info_of(context.get()).n_cells_used == length);
    CHECK(info_of(context.get()).n_branches == 2);
    CHECK(info_of(fork.get()).activation_position == ALORA_END);
    OK(alora_branch_activate(fork.get(), adapter.get(), 1.0f, error.out()));
    CHECK(info_of(fork.get()).activation_position == length);
    alora_adapter * governing = nullptr;
    OK(alora_branch_adapter(trunk.get(), &governing, error.out()));
    CHECK(governing == nullptr);
    OK(alora_branch_adapter(fork.get(), &governing, error.out()));
    const Owned<alora_adapter> same(governing);
    alora_adapter_info info;
    OK(alora_adapter_get_info(governing, &info, sizeof(info), error.out()));
    CHECK(std::string(info.name) == "safety");
    alora_branch * none = nullptr;
    FAILS(ALORA_ERROR_POSITION, "", alora_branch_fork(trunk.get(), length + 1, &none, error.out()));
    FAILS(ALORA_ERROR_POSITION, "", alora_branch_fork(trunk.get(), -2, &none, error.out()));
    std::vector<float> logits = logits_of(trunk.get());
    FAILS(ALORA_ERROR_ARGUMENT, "there is room for",
          alora_branch_logits(trunk.get(), 1, logits.data(), logits.size() - 1, error.out()));
    FAILS(ALORA_ERROR_POSITION, "", alora_branch_logits(trunk.get(), 0, logits.data(), logits.size(), error.out()));
}

TEST_CASE("a full context says so and stays usable") {
    const auto context = open_context(32, 2);
    const auto trunk = open_branch(context.get(), question);
    const std::vector<alora_token> many(64, tokens_of("a").front());
    FAILS(ALORA_ERROR_CONTEXT_FULL, "", alora_branch_append(trunk.get(), many.data(), many.size(), 1, error.out()));
    const auto fork = fork_of(trunk.get());
    alora_branch * none = nullptr;
    FAILS(ALORA_ERROR_CONTEXT_FULL, "", alora_branch_fork(trunk.get(), ALORA_END, &none, error.out()));
    FAILS(ALORA_ERROR_CONTEXT_FULL, "", alora_context_branch(context.get(), &none, error.out()));
    OK(alora_context_decode(context.get(), error.out()));
}

TEST_CASE("a branch saved and restored, rows dropped") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), question);
    OK(alora_context_decode(context.get(), error.out()));
    void * bytes = nullptr;
    size_t size = 0;
    OK(alora_branch_save(branch.get(), &bytes, &size, error.out()));
    alora_branch * made = nullptr;
    const auto elsewhere = open_context();
    OK(alora_context_restore(elsewhere.get(), bytes, size, &made, error.out()));
    const Owned<alora_branch> restored(made);
    alora_token * tokens = nullptr;
    size_t n = 0;
    OK(alora_branch_tokens(restored.get(), &tokens, &n, error.out()));
    CHECK(std::vector<alora_token>(tokens, tokens + n) == tokens_of(question, true));
    alora_free(tokens);
    const std::vector<float> one = logits_of(branch.get());
    const std::vector<float> other = logits_of(restored.get());
    CHECK(std::memcmp(one.data(), other.data(), one.size() * sizeof(float)) == 0);

    void * cells = nullptr;
    size_t cells_size = 0;
    OK(alora_branch_kv_bytes(restored.get(), &cells, &cells_size, error.out()));
    CHECK(cells_size > 0);
    alora_free(cells);
    static_cast<unsigned char *>(bytes)[size / 2] ^= 1U;
    FAILS(ALORA_ERROR_ARGUMENT, "", alora_context_restore(elsewhere.get(), bytes, size, &made, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "", alora_context_restore(elsewhere.get(), bytes, 3, &made, error.out()));
    CHECK(made == nullptr);
    alora_free(bytes);

    OK(alora_branch_drop(restored.get(), 2, 5, error.out()));
    CHECK(info_of(restored.get()).length == static_cast<int32_t>(n) - 3);
    FAILS(ALORA_ERROR_POSITION, "", alora_branch_drop(restored.get(), 5, 2, error.out()));
}
