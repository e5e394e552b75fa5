#include "alora/scoring.hpp"

#include "handles.hpp"

#include <algorithm>
#include <memory>
#include <vector>

using namespace alora::c;

namespace {

std::vector<alora::LabelQuery> queries_of(const alora_label_query * queries, size_t n_queries) {
    std::vector<alora::LabelQuery> asked;
    for (size_t i = 0; i < n_queries; ++i) {
        const alora_label_query & query = (&given(queries, "queries"))[i];
        alora::LabelQuery & one = asked.emplace_back();
        one.branch = given(query.branch, "branch").branch;
        for (size_t k = 0; k < query.n_labels; ++k) {
            const alora_label & label = (&given(query.labels, "labels"))[k];
            one.labels.push_back(tokens_of(label.tokens, label.n_tokens));
        }
    }
    return asked;
}

void write(const std::vector<alora::LabelScores> & read, const alora_label_scores & scores) {
    size_t at = 0;
    for (size_t i = 0; i < read.size(); ++i) {
        const size_t n = read[i].probabilities.size();
        if (scores.probabilities != nullptr) {
            std::copy_n(read[i].probabilities.begin(), n, scores.probabilities + at);
        }
        if (scores.log_probabilities != nullptr) {
            std::copy_n(read[i].log_probabilities.begin(), n, scores.log_probabilities + at);
        }
        if (scores.off_label != nullptr) {
            scores.off_label[i] = read[i].off_label;
        }
        at += n;
    }
}

} // namespace

alora_status alora_score(alora_context * context, const alora_label_query * queries, size_t n_queries,
                         const alora_label_scores * scores, alora_error ** error) {
    return call(error, [&] {
        const auto & in = given(context, "context").context;
        const alora_label_scores & out = given(scores, "scores");
        write(alora::score(in, queries_of(queries, n_queries)), out);
    });
}

alora_status alora_scoring_create(alora_context * context, const alora_label_query * queries, size_t n_queries,
                                  alora_scoring ** scoring, alora_error ** error) {
    return call(error, [&] {
        cleared(scoring, "scoring");
        const auto & in = given(context, "context").context;
        auto handle = std::make_unique<alora_scoring>();
        handle->scoring = std::make_unique<alora::Scoring>(in, queries_of(queries, n_queries));
        *scoring = handle.release();
    });
}

alora_status alora_scoring_read(const alora_scoring * scoring, const alora_label_scores * scores,
                                alora_error ** error) {
    return call(error, [&] {
        const alora_label_scores & out = given(scores, "scores");
        write(given(scoring, "scoring").scoring->read(), out);
    });
}

void alora_scoring_free(alora_scoring * scoring) {
    delete scoring;
}
