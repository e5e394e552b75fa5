#include "adapter_base.hpp"

#include "alora/error.hpp"
#include "model_handle.hpp"
#include "text.hpp"

namespace alora {

namespace {

constexpr const char * forced = "; load it with its own base, or with force where you know better";

// What the model is called, for a message.
std::string called(const Model & model) {
    const auto name = model.metadata().find("general.name");
    return name == model.metadata().end() ? model.path() : "'" + name->second + "' (" + model.path() + ")";
}

// The weights tell most; names only where the file says nothing of them, for they are spelled in many ways. Names of
// files and folders are anyone's choice and say nothing.
void check_weights(const std::string & path, const AdapterBase & base, const Model & model) {
    if (const auto & own = model.fingerprints().weights; !base.weights.empty() && own) {
        if (base.weights != *own) {
            throw AdapterMismatchError(path + ": made for the base '" + base.name + "' (weights " + base.weights +
                                       "), but the model is " + called(model) + " (weights " + *own + ")" + forced);
        }
        return;
    }
    const auto name = model.metadata().find("general.name");
    if (base.published && name != model.metadata().end() && !names_match(base.name, {name->second})) {
        throw AdapterMismatchError(path + ": made for the base '" + base.name + "', but the model is " + called(model) +
                                   forced);
    }
}

// The same ids must mean the same tokens, at least in the invocation.
void check_vocabulary(const std::string & path, const AdapterFile & file, const Model & model) {
    if (file.base.vocabulary == model.fingerprints().vocabulary) {
        return;
    }
    for (size_t i = 0; i < file.base.invocation_pieces.size(); ++i) {
        const std::string & wanted = file.base.invocation_pieces[i];
        const std::string found = llama_vocab_get_text(model.handle().vocab, file.invocation_tokens[i]);
        if (wanted != found) {
            throw AdapterMismatchError(path + ": its invocation token " + std::to_string(file.invocation_tokens[i]) +
                                       " is '" + as_utf8(wanted) + "', but the model " + called(model) + " has '" +
                                       as_utf8(found) + "' there: it has another tokenizer" + forced);
        }
    }
}

} // namespace

void check_base(const std::string & path, const AdapterFile & file, const Model & model) {
    check_weights(path, file.base, model);
    check_vocabulary(path, file, model);
}

} // namespace alora
