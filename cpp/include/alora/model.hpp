// A base model: weights, vocabulary and metadata of one GGUF file. Immutable once loaded, shared by any number of
// contexts and threads; it lives as long as anything that uses it.
#pragma once

#include "alora/export.h"
#include "alora/identity.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace alora {

using Token = int32_t;

// An adapter that is a part of the model's own file (llama.cpp's architecture `graniteswitch`). It governs the rows
// from its control token on, whose embedding is the substitute's.
struct BuiltInAdapter {
    Token control_token = 0;
    Token substitute_token = 0;
};

struct ModelOptions {
    int n_gpu_layers = -1; // layers on the GPU, where the build has one; negative: all
    bool use_mmap = true;
    bool vocabulary_only = false;        // no weights: nothing can be computed, but text becomes tokens
    std::function<bool(float)> progress; // told the fraction loaded; returning false cancels
};

class ALORA_API Model {
public:
    // Throws ModelLoadError, or Cancelled if `progress` said so.
    static std::shared_ptr<const Model> load(const std::string & path, const ModelOptions & options = {});

    ~Model();
    Model(const Model &) = delete;
    Model & operator=(const Model &) = delete;

    const std::string & path() const;
    const std::string & architecture() const;
    const std::map<std::string, std::string> & metadata() const; // scalar keys of the file, as text
    std::optional<std::string> chat_template() const;
    std::string description() const;
    uint64_t n_parameters() const;
    uint64_t size() const; // bytes of all weights
    int n_ctx_train() const;
    int n_embd() const;
    int n_layer() const;
    int n_vocab() const;
    const Fingerprints & fingerprints() const;
    const std::vector<BuiltInAdapter> & built_in_adapters() const; // in the file's order; none in most models

    // Text to tokens. `parse_special` turns the text of control tokens into those tokens: never for what a user wrote.
    // `add_special` adds what the model wants at the start and end of a text. Throws ArgumentError on invalid UTF-8.
    std::vector<Token> tokenize(std::string_view text, bool parse_special = false, bool add_special = false) const;
    // The bytes of a token, which need not be whole UTF-8 characters; control tokens give none unless `special`.
    std::string piece(Token token, bool special = false) const;
    std::string detokenize(const std::vector<Token> & tokens, bool special = false) const;
    bool is_control(Token token) const;
    const std::map<std::string, Token> & control_tokens() const; // by their text
    bool is_end_of_generation(Token token) const;
    std::optional<Token> bos() const;
    std::optional<Token> eos() const;
    // Throws TokenError unless every token is in the vocabulary.
    void check_tokens(const std::vector<Token> & tokens) const;

    struct ALORA_LOCAL Handle;
    Handle & handle() const; // for the library itself

private:
    explicit Model(std::unique_ptr<Handle> handle);
    std::unique_ptr<Handle> handle_;
};

} // namespace alora
