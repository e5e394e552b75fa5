#include "alora/model.hpp"

#include "alora/error.hpp"
#include "heap.hpp"
#include "log.hpp"
#include "memory_check.hpp"
#include "model_file.hpp"
#include "model_handle.hpp"
#include "text.hpp"

#include <array>
#include <exception>
#include <filesystem>
#include <utility>

namespace alora {

namespace {

// Passed through llama.cpp's C callback; keeps an exception from crossing it.
struct Progress {
    const ModelOptions & options;
    bool cancelled = false;
    std::exception_ptr error;

    static bool report(float fraction, void * self) noexcept {
        auto & progress = *static_cast<Progress *>(self);
        try {
            progress.cancelled = !progress.options.progress(fraction);
        } catch (...) {
            progress.error = std::current_exception();
        }
        return !progress.cancelled && !progress.error;
    }
};

std::map<std::string, std::string> read_metadata(const llama_model * model) {
    std::map<std::string, std::string> metadata;
    for (int i = 0; i < llama_model_meta_count(model); ++i) {
        std::array<char, 256> key{};
        llama_model_meta_key_by_index(model, i, key.data(), key.size());
        std::string value(static_cast<size_t>(llama_model_meta_val_str_by_index(model, i, nullptr, 0)), '\0');
        llama_model_meta_val_str_by_index(model, i, value.data(), value.size() + 1);
        metadata[as_utf8(key.data())] = as_utf8(std::move(value));
    }
    return metadata;
}

} // namespace

std::shared_ptr<const Model> Model::load(const std::string & path, const ModelOptions & options) {
    start_backend();
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) {
        throw ModelLoadError(path + ": no such file; expected a GGUF model");
    }
    auto handle = std::make_unique<Handle>();
    ModelFile file = read_model_file(path);
    handle->fingerprints = std::move(file.fingerprints);
    handle->built_in_adapters = std::move(file.built_in_adapters);
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = options.n_gpu_layers;
    params.vocab_only = options.vocabulary_only;
    params.load_mode = options.use_mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    Progress progress{options, false, nullptr};
    if (options.progress) {
        params.progress_callback = Progress::report;
        params.progress_callback_user_data = &progress;
    }
    take_error("");
    std::exception_ptr no_room;
    try {
        const graph::weights_check check([&](const llama_model & model, graph::memory_need need) {
            try {
                check_room_for_model(path, model, std::move(need));
            } catch (...) {
                no_room = std::current_exception(); // llama.cpp keeps only its text
                throw;
            }
        });
        handle->model.reset(llama_model_load_from_file(path.c_str(), params));
    } catch (const std::exception & error) {
        throw ModelLoadError(path + ": " + error.what());
    }
    for (const std::exception_ptr & error : {no_room, progress.error}) {
        if (error) {
            std::rethrow_exception(error);
        }
    }
    if (progress.cancelled) {
        throw Cancelled("loading " + path + " was cancelled");
    }
    if (!handle->model) {
        throw ModelLoadError(path + ": not a model that can be loaded: " +
                             take_error("llama.cpp gave no reason; is it a complete GGUF file?"));
    }
    handle->vocab = llama_model_get_vocab(handle->model.get());
    handle->path = path;
    handle->metadata = read_metadata(handle->model.get());
    handle->architecture = handle->metadata["general.architecture"];
    if (llama_vocab_type(handle->vocab) == LLAMA_VOCAB_TYPE_NONE) {
        throw ModelLoadError(path + ": it has no tokenizer, which text and control tokens need; convert it with one");
    }
    if (llama_model_has_encoder(handle->model.get()) || !llama_model_has_decoder(handle->model.get())) {
        throw ModelLoadError(path + ": architecture '" + handle->architecture + "' is no decoder-only language model");
    }
    if (llama_model_is_recurrent(handle->model.get())) {
        throw ModelLoadError(path + ": architecture '" + handle->architecture +
                             "' has recurrent layers alone; expected attention layers, or some of each");
    }
    handle->vocabulary_only = options.vocabulary_only;
    handle->offloaded = options.n_gpu_layers != 0 && llama_supports_gpu_offload();
    std::map<std::string, Token> & control_tokens = handle->control_tokens;
    std::shared_ptr<const Model> model(new Model(std::move(handle)));
    for (Token token = 0; token < model->n_vocab(); ++token) {
        if (model->is_control(token)) {
            control_tokens.emplace(as_utf8(model->piece(token, true)), token);
        }
    }
    return model;
}

Model::Model(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
Model::~Model() {
    handle_.reset(); // its contexts are gone by now: each holds the model
    trim_heap();
}

Model::Handle & Model::handle() const {
    return *handle_;
}

const std::string & Model::path() const {
    return handle_->path;
}

const std::string & Model::architecture() const {
    return handle_->architecture;
}

const std::map<std::string, std::string> & Model::metadata() const {
    return handle_->metadata;
}

std::optional<std::string> Model::chat_template() const {
    const char * text = llama_model_chat_template(handle_->model.get(), nullptr);
    return text == nullptr ? std::nullopt : std::optional<std::string>(as_utf8(text));
}

std::string Model::description() const {
    std::array<char, 256> text{};
    llama_model_desc(handle_->model.get(), text.data(), text.size());
    return as_utf8(text.data());
}

uint64_t Model::n_parameters() const {
    return llama_model_n_params(handle_->model.get());
}

uint64_t Model::size() const {
    return llama_model_size(handle_->model.get());
}

int Model::n_ctx_train() const {
    return llama_model_n_ctx_train(handle_->model.get());
}

int Model::n_embd() const {
    return llama_model_n_embd(handle_->model.get());
}

int Model::n_layer() const {
    return llama_model_n_layer(handle_->model.get());
}

int Model::n_vocab() const {
    return llama_vocab_n_tokens(handle_->vocab);
}

const Fingerprints & Model::fingerprints() const {
    return handle_->fingerprints;
}

const std::vector<BuiltInAdapter> & Model::built_in_adapters() const {
    return handle_->built_in_adapters;
}

std::vector<Token> Model::tokenize(std::string_view text, bool parse_special, bool add_special) const {
    check_utf8(text, "the text to tokenize");
    const auto length = static_cast<int32_t>(text.size());
    std::vector<Token> tokens(text.size() + 2);
    int32_t n = llama_tokenize(handle_->vocab, text.data(), length, tokens.data(), static_cast<int32_t>(tokens.size()),
                               add_special, parse_special);
    if (n < 0) {
        tokens.resize(static_cast<size_t>(-n));
        n = llama_tokenize(handle_->vocab, text.data(), length, tokens.data(), -n, add_special, parse_special);
    }
    tokens.resize(static_cast<size_t>(n));
    return tokens;
}

std::string Model::piece(Token token, bool special) const {
    check_tokens({token});
    std::string bytes(32, '\0');
    int32_t n = llama_token_to_piece(handle_->vocab, token, bytes.data(), 32, 0, special);
    if (n < 0) {
        bytes.resize(static_cast<size_t>(-n));
        n = llama_token_to_piece(handle_->vocab, token, bytes.data(), -n, 0, special);
    }
    bytes.resize(static_cast<size_t>(n));
    return bytes;
}

std::string Model::detokenize(const std::vector<Token> & tokens, bool special) const {
    std::string bytes;
    for (const Token token : tokens) {
        bytes += piece(token, special);
    }
    return bytes;
}

bool Model::is_control(Token token) const {
    check_tokens({token});
    return llama_vocab_is_control(handle_->vocab, token);
}

const std::map<std::string, Token> & Model::control_tokens() const {
    return handle_->control_tokens;
}

bool Model::is_end_of_generation(Token token) const {
    check_tokens({token});
    return llama_vocab_is_eog(handle_->vocab, token);
}

std::optional<Token> Model::bos() const {
    const Token token = llama_vocab_bos(handle_->vocab);
    return token == LLAMA_TOKEN_NULL ? std::nullopt : std::optional<Token>(token);
}

std::optional<Token> Model::eos() const {
    const Token token = llama_vocab_eos(handle_->vocab);
    return token == LLAMA_TOKEN_NULL ? std::nullopt : std::optional<Token>(token);
}

void Model::check_tokens(const std::vector<Token> & tokens) const {
    const int n = n_vocab();
    for (const Token token : tokens) {
        if (token < 0 || token >= n) {
            throw TokenError("token " + std::to_string(token) + " is not in the vocabulary of " + std::to_string(n) +
                             " tokens (0 to " + std::to_string(n - 1) + ")");
        }
    }
}

} // namespace alora
