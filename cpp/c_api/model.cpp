#include "alora/model.hpp"

#include "handles.hpp"
#include "memory.hpp"
#include "metadata.hpp"
#include "structures.hpp"

#include <memory>
#include <string>
#include <string_view>

using namespace alora::c;

namespace {

alora_model_options default_options() {
    const alora::ModelOptions defaults;
    alora_model_options options = {};
    options.struct_size = sizeof(options);
    options.n_gpu_layers = defaults.n_gpu_layers;
    options.use_mmap = defaults.use_mmap;
    options.vocabulary_only = defaults.vocabulary_only;
    return options;
}

const alora::Model & of(const alora_model * model) {
    return *given(model, "model").model;
}

} // namespace

alora_status alora_model_options_init(alora_model_options * options, size_t struct_size, alora_error ** error) {
    return call(error, [&] { init_options(options, struct_size, default_options(), "alora_model_options"); });
}

alora_status alora_model_load(const char * path, const alora_model_options * options, alora_model ** model,
                              alora_error ** error) {
    return call(error, [&] {
        cleared(model, "model");
        given(path, "path");
        const alora_model_options asked = read_options(options, default_options(), "alora_model_options");
        alora::ModelOptions wanted;
        wanted.n_gpu_layers = asked.n_gpu_layers;
        wanted.use_mmap = asked.use_mmap;
        wanted.vocabulary_only = asked.vocabulary_only;
        if (asked.progress != nullptr) {
            wanted.progress = [&asked](float fraction) {
                return asked.progress(fraction, asked.user_data) == ALORA_GO_ON;
            };
        }
        auto handle = std::make_unique<alora_model>();
        handle->model = alora::Model::load(path, wanted);
        handle->description = handle->model->description();
        handle->chat_template = handle->model->chat_template();
        *model = handle.release();
    });
}

void alora_model_free(alora_model * model) {
    delete model;
}

alora_status alora_model_get_info(const alora_model * model, alora_model_info * info, size_t info_size,
                                  alora_error ** error) {
    return call(error, [&] {
        const alora::Model & from = of(model);
        const alora::Fingerprints & fingerprints = from.fingerprints();
        alora_model_info known = {};
        known.path = from.path().c_str();
        known.architecture = from.architecture().c_str();
        known.description = model->description.c_str();
        known.chat_template = model->chat_template ? model->chat_template->c_str() : nullptr;
        known.vocabulary_fingerprint = fingerprints.vocabulary.c_str();
        known.weights_fingerprint = fingerprints.weights ? fingerprints.weights->c_str() : nullptr;
        known.n_parameters = from.n_parameters();
        known.size = from.size();
        known.n_ctx_train = from.n_ctx_train();
        known.n_embd = from.n_embd();
        known.n_layer = from.n_layer();
        known.n_vocab = from.n_vocab();
        known.bos = from.bos().value_or(ALORA_NO_TOKEN);
        known.eos = from.eos().value_or(ALORA_NO_TOKEN);
        known.n_metadata = from.metadata().size();
        known.n_built_in_adapters = from.built_in_adapters().size();
        write_info(known, info, info_size);
    });
}

alora_status alora_model_metadata(const alora_model * model, const char * key, const char ** value,
                                  alora_error ** error) {
    return call(error, [&] {
        cleared(value, "value");
        *value = value_of(of(model).metadata(), &given(key, "key"));
    });
}

alora_status alora_model_metadata_at(const alora_model * model, size_t index, const char ** key, const char ** value,
                                     alora_error ** error) {
    return call(error, [&] { entry_at(of(model).metadata(), index, key, value); });
}

alora_status alora_model_built_in_adapter(const alora_model * model, size_t index, alora_built_in_adapter * adapter,
                                          size_t adapter_size, alora_error ** error) {
    return call(error, [&] {
        const auto & all = of(model).built_in_adapters();
        check_index(index, all.size(), "built-in adapters");
        write_info({all[index].control_token, all[index].substitute_token}, adapter, adapter_size);
    });
}

alora_status alora_model_tokenize(const alora_model * model, const char * text, size_t text_size, bool parse_special,
                                  bool add_special, alora_token ** tokens, size_t * n_tokens, alora_error ** error) {
    return call(error, [&] {
        cleared(tokens, "tokens");
        cleared(n_tokens, "n_tokens");
        const std::string_view view(&given(text, "text"), text_size);
        hand_out(of(model).tokenize(view, parse_special, add_special), tokens, *n_tokens);
    });
}

alora_status alora_model_detokenize(const alora_model * model, const alora_token * tokens, size_t n_tokens,
                                    bool special, char ** text, size_t * text_size, alora_error ** error) {
    return call(error, [&] {
        size_t unasked = 0;
        size_t & size = text_size == nullptr ? unasked : *text_size;
        size = 0;
        cleared(text, "text");
        hand_out(of(model).detokenize(tokens_of(tokens, n_tokens), special), text, size);
    });
}

alora_status alora_model_token_info(const alora_model * model, alora_token token, alora_token_info * info,
                                    size_t info_size, alora_error ** error) {
    return call(error, [&] {
        const alora::Model & from = of(model);
        write_info({from.is_control(token), from.is_end_of_generation(token)}, info, info_size);
    });
}

alora_status alora_model_control_token(const alora_model * model, const char * text, alora_token * token,
                                       alora_error ** error) {
    return call(error, [&] {
        given(token, "token") = ALORA_NO_TOKEN;
        const auto & all = of(model).control_tokens();
        if (const auto found = all.find(&given(text, "text")); found != all.end()) {
            *token = found->second;
        }
    });
}
