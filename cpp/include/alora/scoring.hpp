// Exact probabilities of a closed set of labels at the end of a branch.
//
// Each label is a token sequence; its probability is the product of full-vocabulary softmax probabilities along it. A
// label that another one continues counts only where the answer does not go on to the longer label, so the events
// exclude one another and what is left of 1 is the mass off the labels.
#pragma once

#include "alora/branch.hpp"

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

// Scores all queries in one fused pass: queued rows, and the inner nodes of every query's token trie on forks that are
// gone afterwards. Throws ArgumentError for an empty, missing or doubled label.
std::vector<LabelScores> score(Context & context, const std::vector<LabelQuery> & queries);

} // namespace alora
