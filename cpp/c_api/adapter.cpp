#include "alora/adapter.hpp"

#include "handles.hpp"
#include "metadata.hpp"
#include "structures.hpp"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace alora::c {

std::unique_ptr<alora_adapter> adapter_handle(std::shared_ptr<const Adapter> adapter) {
    auto handle = std::make_unique<alora_adapter>();
    handle->io_yaml = adapter->io_yaml();
    for (const std::string & target : adapter->targets()) {
        handle->targets.push_back(target.c_str());
    }
    handle->adapter = std::move(adapter);
    return handle;
}

} // namespace alora::c

using namespace alora::c;

namespace {

alora_adapter_options default_options() {
    alora_adapter_options options = {};
    options.struct_size = sizeof(options);
    return options;
}

bool forced(const alora_adapter_options * options) {
    return read_options(options, default_options(), "alora_adapter_options").force;
}

const alora::Adapter & of(const alora_adapter * adapter) {
    return *given(adapter, "adapter").adapter;
}

} // namespace

alora_status alora_adapter_options_init(alora_adapter_options * options, size_t struct_size, alora_error ** error) {
    return call(error, [&] { init_options(options, struct_size, default_options(), "alora_adapter_options"); });
}

alora_status alora_adapter_load(const alora_model * model, const char * path, const alora_adapter_options * options,
                                alora_adapter ** adapter, alora_error ** error) {
    return call(error, [&] {
        cleared(adapter, "adapter");
        const auto & base = given(model, "model").model;
        *adapter = adapter_handle(alora::Adapter::load(base, &given(path, "path"), forced(options))).release();
    });
}

alora_status alora_adapter_check(const alora_model * model, const char * path, const alora_adapter_options * options,
                                 alora_error ** error) {
    return call(error,
                [&] { alora::Adapter::check(*given(model, "model").model, &given(path, "path"), forced(options)); });
}

alora_status alora_adapter_built_in(const alora_model * model, int32_t index, const char * name, const char * io_yaml,
                                    const alora_token * invocation_tokens, size_t n_invocation_tokens,
                                    alora_adapter ** adapter, alora_error ** error) {
    return call(error, [&] {
        cleared(adapter, "adapter");
        const auto & base = given(model, "model").model;
        auto yaml = io_yaml == nullptr ? std::nullopt : std::optional<std::string>(io_yaml);
        *adapter = adapter_handle(alora::Adapter::built_in(base, index, &given(name, "name"), std::move(yaml),
                                                           tokens_of(invocation_tokens, n_invocation_tokens)))
                       .release();
    });
}

void alora_adapter_free(alora_adapter * adapter) {
    delete adapter;
}

alora_status alora_adapter_get_info(const alora_adapter * adapter, alora_adapter_info * info, size_t info_size,
                                    alora_error ** error) {
    return call(error, [&] {
        const alora::Adapter & from = of(adapter);
        alora_adapter_info known = {};
        known.path = from.path().c_str();
        known.name = from.name().c_str();
        known.io_yaml = adapter->io_yaml ? adapter->io_yaml->c_str() : nullptr;
        known.invocation_tokens = from.invocation_tokens().data();
        known.n_invocation_tokens = from.invocation_tokens().size();
        known.targets = adapter->targets.data();
        known.n_targets = adapter->targets.size();
        known.n_metadata = from.metadata().size();
        known.size = from.size();
        known.activation_offset = from.activation_offset();
        known.rank = from.rank();
        known.alpha = from.alpha();
        known.control_token = from.control_token().value_or(ALORA_NO_TOKEN);
        write_info(known, info, info_size);
    });
}

alora_status alora_adapter_metadata(const alora_adapter * adapter, const char * key, const char ** value,
                                    alora_error ** error) {
    return call(error, [&] {
        cleared(value, "value");
        *value = value_of(of(adapter).metadata(), &given(key, "key"));
    });
}

alora_status alora_adapter_metadata_at(const alora_adapter * adapter, size_t index, const char ** key,
                                       const char ** value, alora_error ** error) {
    return call(error, [&] { entry_at(of(adapter).metadata(), index, key, value); });
}

alora_status alora_adapter_find_invocation(const alora_adapter * adapter, const alora_token * tokens, size_t n_tokens,
                                           int32_t * position, alora_error ** error) {
    return call(error, [&] {
        cleared(position, "position");
        *position = of(adapter).find_invocation(tokens_of(tokens, n_tokens));
    });
}
