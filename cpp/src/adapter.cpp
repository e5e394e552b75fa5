#include "alora/adapter.hpp"

#include "adapter_base.hpp"
#include "adapter_file.hpp"
#include "adapter_handle.hpp"
#include "alora/error.hpp"
#include "log.hpp"
#include "model_handle.hpp"
#include "text.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace alora {

Adapter::Handle::~Handle() {
    if (lora != nullptr) {
        Model::Handle & of = model->handle();
        const std::lock_guard<std::mutex> lock(of.adapters_mutex);
        if (rows) {
            of.stacks.remove(rows->id);
        }
        llama_adapter_lora_free(lora);
    }
}

std::shared_ptr<const Adapter> Adapter::load(std::shared_ptr<const Model> model, const std::string & path, bool force) {
    AdapterFile file = read_adapter_file(path, *model, true);
    if (!force) {
        check_base(path, file, *model);
    }
    auto handle = std::make_unique<Handle>();
    handle->model = model;
    handle->path = path;
    handle->name = std::move(file.name);
    handle->metadata = std::move(file.metadata);
    handle->invocation_tokens = std::move(file.invocation_tokens);
    handle->activation_offset = file.activation_offset;
    handle->io_yaml = std::move(file.io_yaml);
    handle->rank = file.rank;
    handle->alpha = file.alpha;
    handle->targets = std::move(file.targets);
    handle->size = file.size;
    llama_model * llama = model->handle().model.get();
    take_error("");
    {
        const std::lock_guard<std::mutex> lock(model->handle().adapters_mutex);
        handle->lora = llama_adapter_lora_init(llama, path.c_str());
        if (handle->lora != nullptr) {
            handle->rows = graph::make_row_adapter(*llama, *handle->lora, model->handle().stacks, file.largest);
        }
    }
    if (handle->lora == nullptr) {
        throw AdapterError(path + ": " + take_error("llama.cpp could not load it"));
    }
    return std::shared_ptr<const Adapter>(new Adapter(std::move(model), std::move(handle)));
}

void Adapter::check(const Model & model, const std::string & path, bool force) {
    const AdapterFile file = read_adapter_file(path, model, false);
    if (!force) {
        check_base(path, file, model);
    }
}

std::shared_ptr<const Adapter> Adapter::built_in(std::shared_ptr<const Model> model, int index, std::string name,
                                                 std::optional<std::string> io_yaml,
                                                 std::vector<Token> invocation_tokens) {
    const std::vector<BuiltInAdapter> & all = model->built_in_adapters();
    if (index < 0 || static_cast<size_t>(index) >= all.size()) {
        throw ArgumentError("the model " + model->path() + " has " + std::to_string(all.size()) +
                            " built-in adapters; there is no number " + std::to_string(index));
    }
    model->check_tokens(invocation_tokens);
    const Token control = all[static_cast<size_t>(index)].control_token;
    if (invocation_tokens.empty() || invocation_tokens.front() != control) {
        throw ArgumentError("the invocation of built-in adapter '" + name + "' must begin with its control token " +
                            std::to_string(control) + " (" + model->piece(control, true) + ")");
    }
    auto handle = std::make_unique<Handle>();
    handle->model = model;
    handle->path = model->path();
    handle->name = std::move(name);
    handle->invocation_tokens = std::move(invocation_tokens);
    handle->control_token = control;
    handle->io_yaml = std::move(io_yaml);
    handle->rows = graph::make_row_adapter();
    return std::shared_ptr<const Adapter>(new Adapter(std::move(model), std::move(handle)));
}

Adapter::Adapter(std::shared_ptr<const Model> model, std::unique_ptr<Handle> handle)
    : model_(std::move(model)), handle_(std::move(handle)) {}
Adapter::~Adapter() = default;

const Adapter::Handle & Adapter::handle() const {
    return *handle_;
}

const std::shared_ptr<const Model> & Adapter::model() const {
    return model_;
}

const std::string & Adapter::path() const {
    return handle_->path;
}

const std::string & Adapter::name() const {
    return handle_->name;
}

const std::map<std::string, std::string> & Adapter::metadata() const {
    return handle_->metadata;
}

const std::vector<Token> & Adapter::invocation_tokens() const {
    return handle_->invocation_tokens;
}

int Adapter::activation_offset() const {
    return handle_->activation_offset;
}

std::optional<Token> Adapter::control_token() const {
    return handle_->control_token;
}

std::optional<std::string> Adapter::io_yaml() const {
    return handle_->io_yaml;
}

int Adapter::rank() const {
    return handle_->rank;
}

float Adapter::alpha() const {
    return handle_->alpha;
}

const std::vector<std::string> & Adapter::targets() const {
    return handle_->targets;
}

uint64_t Adapter::size() const {
    return handle_->size;
}

int Adapter::find_invocation(const std::vector<Token> & tokens) const {
    const std::vector<Token> & wanted = handle_->invocation_tokens;
    if (wanted.empty()) {
        throw InvocationNotFoundError("adapter '" + name() +
                                      "' has no invocation tokens: it is an ordinary LoRA, activate it where you want");
    }
    const auto found = std::find_end(tokens.begin(), tokens.end(), wanted.begin(), wanted.end());
    if (found == tokens.end()) {
        throw InvocationNotFoundError(
            "the invocation of adapter '" + name() + "' (" + one_line(model_->detokenize(wanted, true)) + ", " +
            std::to_string(wanted.size()) + " tokens) is not among the " + std::to_string(tokens.size()) +
            " tokens of the prompt; append adapter.invocation_tokens");
    }
    return static_cast<int>(found - tokens.begin());
}

} // namespace alora
