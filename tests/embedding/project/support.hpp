// What the tests of the C interface share: the bundled model, handles that free themselves.
#pragma once

#include <alora.h>

#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

// The bundled model's folder.
inline std::string folder() {
    const char * named = std::getenv("ALORA_BUNDLED");
    return named == nullptr ? "." : named;
}

inline std::string model_path() {
    return folder() + "/alora-tiny.gguf";
}

inline std::string adapter_path(const std::string & name) {
    return folder() + "/alora-tiny." + name + ".gguf";
}

struct Free {
    void operator()(alora_model * handle) const { alora_model_free(handle); }
    void operator()(alora_adapter * handle) const { alora_adapter_free(handle); }
    void operator()(alora_context * handle) const { alora_context_free(handle); }
    void operator()(alora_branch * handle) const { alora_branch_free(handle); }
    void operator()(alora_scoring * handle) const { alora_scoring_free(handle); }
    void operator()(alora_generation * handle) const { alora_generation_free(handle); }
};
template <typename Handle>
using Owned = std::unique_ptr<Handle, Free>;

// A call's error: its status, and its text beside a check that fails.
class Error {
public:
    Error() = default;
    ~Error() { alora_error_free(error_); }
    Error(const Error &) = delete;
    Error & operator=(const Error &) = delete;

    // For one call; what an earlier one left is freed.
    alora_error ** out() {
        alora_error_free(error_);
        error_ = nullptr;
        return &error_;
    }
    bool empty() const { return error_ == nullptr; }
    alora_status status() const { return alora_error_status(error_); }
    std::string message() const { return alora_error_message(error_); }

private:
    alora_error * error_ = nullptr;
};

// A call that succeeds: OK(alora_context_decode(context, error.out())).
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        Error error;                                                                                                   \
        const alora_status status = (call);                                                                            \
        INFO(error.message());                                                                                         \
        REQUIRE(status == ALORA_OK);                                                                                   \
        REQUIRE(error.empty());                                                                                        \
    } while (false)

// A call that fails so, with a message that has these words.
#define FAILS(expected, words, call)                                                                                   \
    do {                                                                                                               \
        Error error;                                                                                                   \
        const alora_status status = (call);                                                                            \
        INFO(error.message());                                                                                         \
        CHECK(status == (expected));                                                                                   \
        CHECK(error.status() == (expected));                                                                           \
        CHECK(error.message().find(words) != std::string::npos);                                                       \
    } while (false)

inline Owned<alora_model> load_model() {
    alora_model * model = nullptr;
    OK(alora_model_load(model_path().c_str(), nullptr, &model, error.out()));
    return Owned<alora_model>(model);
}

// Loaded once for all tests.
inline alora_model * model() {
    static const Owned<alora_model> loaded = load_model();
    return loaded.get();
}

inline Owned<alora_adapter> load_adapter(const std::string & name) {
    alora_adapter * adapter = nullptr;
    OK(alora_adapter_load(model(), adapter_path(name).c_str(), nullptr, &adapter, error.out()));
    return Owned<alora_adapter>(adapter);
}

inline Owned<alora_context> open_context(int n_ctx = 256, int n_branches = 8) {
    alora_context_options options;
    OK(alora_context_options_init(&options, sizeof(options), error.out()));
    options.n_ctx = n_ctx;
    options.n_branches = n_branches;
    options.n_threads = 1;
    alora_context * context = nullptr;
    OK(alora_context_create(model(), &options, &context, error.out()));
    return Owned<alora_context>(context);
}

inline std::vector<alora_token> tokens_of(const std::string & text, bool parse_special = false) {
    alora_token * tokens = nullptr;
    size_t n = 0;
    OK(alora_model_tokenize(model(), text.data(), text.size(), parse_special, false, &tokens, &n, error.out()));
    std::vector<alora_token> copy(tokens, tokens + n);
    alora_free(tokens);
    return copy;
}

inline Owned<alora_branch> open_branch(alora_context * context, const std::string & prompt = "") {
    alora_branch * branch = nullptr;
    OK(alora_context_branch(context, &branch, error.out()));
    Owned<alora_branch> owned(branch);
    if (const std::vector<alora_token> tokens = tokens_of(prompt, true); !tokens.empty()) {
        OK(alora_branch_append(branch, tokens.data(), tokens.size(), 1, error.out()));
    }
    return owned;
}

inline Owned<alora_branch> fork_of(const alora_branch * branch, int32_t at = ALORA_END) {
    alora_branch * fork = nullptr;
    OK(alora_branch_fork(branch, at, &fork, error.out()));
    return Owned<alora_branch>(fork);
}

inline alora_branch_info info_of(const alora_branch * branch) {
    alora_branch_info info;
    OK(alora_branch_get_info(branch, &info, sizeof(info), error.out()));
    return info;
}

inline alora_context_info info_of(const alora_context * context) {
    alora_context_info info;
    OK(alora_context_get_info(context, &info, sizeof(info), error.out()));
    return info;
}

inline std::vector<float> logits_of(const alora_branch * branch, int32_t rows = 1) {
    alora_model_info info;
    OK(alora_model_get_info(model(), &info, sizeof(info), error.out()));
    std::vector<float> logits(static_cast<size_t>(rows) * static_cast<size_t>(info.n_vocab));
    OK(alora_branch_logits(branch, rows, logits.data(), logits.size(), error.out()));
    return logits;
}

const char * const question = "<|start_of_role|>user<|end_of_role|>Who designed the Lantern Museum?<|end_of_text|>\n";
