// Exact probabilities of a closed set of labels at the end of a branch.
//
// Each label is a token sequence; its probability is the product of full-vocabulary softmax probabilities along it. A
// label that another one continues counts only where the answer does not go on to the longer label, so the events
// exclude one another and what is left of 1 is the mass off the labels.
#pragma once

#include "alora/branch.hpp"
#include "alora/export.h"

#include <memory>
#include <vector>

namespace alora {

struct LabelQuery {
    std::shared_ptr<Branch> branch; // may have queued rows
    std::vector<std::vector<Token>> labels;
};

struct LabelScores {
    std::vector<double> log_probabilities; // of each label's whole token sequence
    std::vector<double> probabilities;     // of each label, renormalised over the labels
    double off_label = 0.0;                // probability that the answer is none of them
};

// Scores in the making: the inner nodes of every query's token trie are queued, on forks that are gone afterwards, and
// go through whatever decode() comes next, together with the rows of others.
class ALORA_API Scoring {
public:
    // Throws ArgumentError for an empty, missing or doubled label, ContextFullError where the inner nodes do not fit.
    Scoring(std::shared_ptr<Context> context, const std::vector<LabelQuery> & queries);
    ~Scoring();
    Scoring(const Scoring &) = delete;
    Scoring & operator=(const Scoring &) = delete;

    // The scores of all queries. Throws PositionError where rows are queued still, or a branch went on or was closed.
    std::vector<LabelScores> read() const;

private:
    struct ALORA_LOCAL State;
    std::unique_ptr<State> state_;
};

// Scores all queries at once, in one fused pass.
ALORA_API std::vector<LabelScores> score(const std::shared_ptr<Context> & context,
                                         const std::vector<LabelQuery> & queries);

} // namespace alora
