// What the opaque handles of the C interface are.
#pragma once

#include "alora.h"
#include "alora/alora.hpp"
#include "call.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

// What alora_..._get_info() points to is held here where the C++ class gives it by value.
struct alora_model {
    std::shared_ptr<const alora::Model> model;
    std::string description;
    std::optional<std::string> chat_template;
};

struct alora_adapter {
    std::shared_ptr<const alora::Adapter> adapter;
    std::optional<std::string> io_yaml;
    std::vector<const char *> targets;
};

struct alora_context {
    std::shared_ptr<alora::Context> context;
};

struct alora_branch {
    std::shared_ptr<alora::Branch> branch;
};

struct alora_scoring {
    std::unique_ptr<alora::Scoring> scoring;
};

struct alora_generation {
    std::unique_ptr<alora::Generation> generation;
};

namespace alora::c {

// Defined in adapter.cpp; a branch's adapter gets a handle, too.
std::unique_ptr<alora_adapter> adapter_handle(std::shared_ptr<const Adapter> adapter);

// Tokens of the caller's; a NULL pointer stands for none.
inline std::vector<Token> tokens_of(const alora_token * tokens, size_t n_tokens) {
    if (n_tokens > 0) {
        given(tokens, "tokens");
    }
    return {tokens, tokens + n_tokens};
}

} // namespace alora::c
