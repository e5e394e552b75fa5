// A branch: one token sequence in a context. It forks from another at any position and shares that one's KV cells up to
// there. Whose cells it may read is decided by this ancestry alone, never by equal tokens.
#pragma once

#include "alora/adapter.hpp"
#include "alora/context.hpp"
#include "alora/export.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace alora {

class ALORA_API Branch {
public:
    ~Branch(); // closes

    // Queues rows; decode() computes them. The logits of the last `n_logits` rows are kept. Throws TokenError,
    // ContextFullError (nothing is queued then).
    void append(const std::vector<Token> & tokens, int n_logits = 1);

    // A new branch that shares this one's rows before position `at` (its whole length if not given). Takes constant
    // time and no KV memory. It is governed by this one's adapter if it shares rows that the adapter governs. Throws
    // PositionError, also for a position whose state a model with recurrent layers has no more; ContextFullError.
    std::shared_ptr<Branch> fork(std::optional<int> at = {}) const;

    // From here on the adapter governs this branch's rows, with its weights multiplied by `scale`. Throws
    // AdapterMismatchError for another model's adapter, AdapterError where another adapter has governed rows already,
    // ArgumentError for a scale that is no finite number.
    void activate(std::shared_ptr<const Adapter> adapter, float scale = 1.0f);

    // Logits of the last `rows` rows, [rows][n_vocab]. What the last decode kept is handed out; anything else is
    // computed again on a fork that is gone afterwards. Throws PositionError if rows are queued or fewer exist.
    std::vector<float> logits(int rows = 1) const;

    int length() const;   // rows, queued ones too
    int n_queued() const; // rows that wait for decode()
    std::vector<Token> tokens() const;
    std::shared_ptr<const Adapter> adapter() const; // that governs rows appended now, or none
    std::optional<int> activation_position() const; // the first position it governs

    // Takes the rows of [begin, end) out; later ones move up to `begin`, their keys turned to their new positions. They
    // still hold what they once read of the rows that are gone, so this is no substitute for a new beginning. Throws
    // PositionError where rows are queued or shared with another branch, AdapterError on a governed branch,
    // BackendError where the model's positions cannot be moved.
    void drop(int begin, int end);

    // Tokens and KV of all rows, shared ones too, for Context::restore(). Throws PositionError where rows are queued,
    // AdapterError on a governed branch.
    std::vector<uint8_t> save() const;

    // The bytes of the KV cells this branch holds itself, without what it shares with its origin.
    std::vector<uint8_t> kv_bytes() const;

    // Gives its cells back, except those that forks of it still share.
    void close();
    bool closed() const;

    struct ALORA_LOCAL Handle;
    Handle & handle() const; // for the library itself

private:
    friend class Context;
    explicit Branch(std::unique_ptr<Handle> handle);
    std::unique_ptr<Handle> handle_;
};

} // namespace alora
