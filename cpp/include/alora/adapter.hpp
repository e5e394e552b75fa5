// An adapter: LoRA weights for one model, with its invocation tokens. Immutable and shared like the model.
#pragma once

#include "alora/export.h"
#include "alora/model.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace alora {

class ALORA_API Adapter {
public:
    // Checks the whole file against the model before any of it is used. Throws AdapterError for a file that is broken
    // or of a kind that cannot be run, AdapterMismatchError for one made for another base. With `force` only what
    // cannot be computed is a mismatch: another architecture, other tensors or shapes.
    static std::shared_ptr<const Adapter> load(std::shared_ptr<const Model> model, const std::string & path,
                                               bool force = false);
    // The same checks, but without reading the weights' numbers, so that it takes no time.
    static void check(const Model & model, const std::string & path, bool force = false);

    // One of the model's built-in adapters: it has no weights of its own, and activating it says whose rows they are.
    // Throws ArgumentError unless it exists and the invocation begins with its control token.
    static std::shared_ptr<const Adapter> built_in(std::shared_ptr<const Model> model, int index, std::string name,
                                                   std::optional<std::string> io_yaml,
                                                   std::vector<Token> invocation_tokens);

    ~Adapter();
    Adapter(const Adapter &) = delete;
    Adapter & operator=(const Adapter &) = delete;

    const std::shared_ptr<const Model> & model() const;
    const std::string & path() const;
    const std::string & name() const; // general.name, else the file's stem
    const std::map<std::string, std::string> & metadata() const;
    const std::vector<Token> & invocation_tokens() const; // empty: an ordinary LoRA, activated wherever the caller says
    int activation_offset() const; // tokens of the invocation before the first adapted one: 0, or 1 for legacy adapters
    std::optional<Token> control_token() const; // of a built-in adapter: the first row that it governs is this one
    std::optional<std::string> io_yaml() const;
    int rank() const; // the largest of its tensors' ranks
    float alpha() const;
    const std::vector<std::string> & targets() const; // base weights that it adds to, without block numbers
    uint64_t size() const;                            // bytes of its weights

    // Where the last occurrence of the invocation begins (PEFT's rule); throws InvocationNotFoundError.
    int find_invocation(const std::vector<Token> & tokens) const;

    struct ALORA_LOCAL Handle;
    const Handle & handle() const; // for the library itself

private:
    Adapter(std::shared_ptr<const Model> model, std::unique_ptr<Handle> handle);
    std::shared_ptr<const Model> model_;
    std::unique_ptr<Handle> handle_; // goes before the model does
};

} // namespace alora
