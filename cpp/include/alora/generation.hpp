// Plain generation on one or several branches at once: each step is one fused pass.
#pragma once

#include "alora/branch.hpp"
#include "alora/export.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace alora {

struct GenerationOptions {
    int max_tokens = 256;
    float temperature = 0.0f; // 0: greedy
    int top_k = 0;            // 0: off
    float top_p = 1.0f;       // 1: off
    float min_p = 0.0f;       // 0: off
    uint32_t seed = 0;
    std::vector<std::string> stop;  // the text ends before the first of these
    std::vector<Token> stop_tokens; // beside the model's own ends of generation
};

enum class FinishReason { none, stop, length };

struct GenerationStep {
    int index = 0; // which of the branches
    Token token = 0;
    std::string text; // whole UTF-8 characters that are now certain; may be empty, or more than this token's
    FinishReason finish = FinishReason::none;
};

class ALORA_API Generation {
public:
    // Throws ArgumentError for an option outside its range. Every branch needs at least one row.
    Generation(std::shared_ptr<Context> context, std::vector<std::shared_ptr<Branch>> branches,
               const GenerationOptions & options);
    ~Generation();

    // Decodes what is queued and samples one token for each branch that goes on; empty when all have finished. The
    // tokens are appended to their branches, except the model's own ends of generation and stop tokens. Throws what
    // decode() and append() do.
    std::vector<GenerationStep> next();

    // The next token of this branch will be one of these: bit i % 32 of word i / 32 stands for token i. Throws
    // ArgumentError for a mask of another size, or one that allows nothing.
    void restrict_next(int index, std::vector<uint32_t> allowed);

private:
    struct ALORA_LOCAL State;
    std::unique_ptr<State> state_;
};

} // namespace alora
