// Scoring of closed label sets through the C interface.
#include "support.hpp"

#include <cmath>

namespace {

// Two labels of one token each, one of several.
struct Labels {
    std::vector<std::vector<alora_token>> tokens = {tokens_of("Y"), tokens_of("N"), tokens_of("None of them")};
    std::vector<alora_label> labels;

    Labels() {
        for (const auto & one : tokens) {
            labels.push_back({one.data(), one.size()});
        }
    }
    alora_label_query of(const alora_branch * branch, size_t n = 3) const { return {branch, labels.data(), n}; }
};

} // namespace

TEST_CASE("an intrinsic's labels; the trunk is as it was") {
    const auto adapter = load_adapter("safety");
    const auto context = open_context();
    const auto trunk = open_branch(context.get(), question);
    OK(alora_context_decode(context.get(), error.out()));
    const std::vector<float> before = logits_of(trunk.get());
    {
        const auto fork = fork_of(trunk.get());
        alora_adapter_info info;
        OK(alora_adapter_get_info(adapter.get(), &info, sizeof(info), error.out()));
        OK(alora_branch_activate(fork.get(), adapter.get(), 1.0f, error.out()));
        OK(alora_branch_append(fork.get(), info.invocation_tokens, info.n_invocation_tokens, 1, error.out()));
        const Labels labels;
        const alora_label_query query = labels.of(fork.get(), 2);
        double probabilities[2] = {};
        double off_label = -1.0;
        const alora_label_scores scores = {probabilities, nullptr, &off_label};
        OK(alora_score(context.get(), &query, 1, &scores, error.out()));
        CHECK(probabilities[1] > 0.5); // nothing unsafe about a museum
        CHECK(probabilities[0] + probabilities[1] == doctest::Approx(1.0));
        CHECK(off_label >= 0.0);
        CHECK(off_label < 0.5);
    }
    CHECK(logits_of(trunk.get()) == before);
    CHECK(info_of(context.get()).n_cells_used == info_of(trunk.get()).length);
}

TEST_CASE("several queries at once, label after label, are those of two steps") {
    const auto context = open_context();
    const auto first = open_branch(context.get(), question);
    const auto second = open_branch(context.get(), "Yes or no?");
    OK(alora_context_decode(context.get(), error.out()));
    const Labels labels;
    const alora_label_query queries[] = {labels.of(first.get(), 2), labels.of(second.get(), 3)};
    std::vector<double> probabilities(5, -1.0);
    std::vector<double> log_probabilities(5, 1.0);
    std::vector<double> off_label(2, -1.0);
    const alora_label_scores scores = {probabilities.data(), log_probabilities.data(), off_label.data()};
    OK(alora_score(context.get(), queries, 2, &scores, error.out()));
    CHECK(probabilities[0] + probabilities[1] == doctest::Approx(1.0));
    CHECK(probabilities[2] + probabilities[3] + probabilities[4] == doctest::Approx(1.0));
    CHECK(std::exp(log_probabilities[0]) + std::exp(log_probabilities[1]) + off_label[0] == doctest::Approx(1.0));
    for (const double one : log_probabilities) {
        CHECK(one < 0.0);
    }

    alora_scoring * made = nullptr;
    OK(alora_scoring_create(context.get(), queries, 2, &made, error.out()));
    const Owned<alora_scoring> scoring(made);
    std::vector<double> again(5, -1.0);
    const alora_label_scores probabilities_alone = {again.data(), nullptr, nullptr};
    FAILS(ALORA_ERROR_POSITION, "", alora_scoring_read(scoring.get(), &probabilities_alone, error.out()));
    OK(alora_context_decode(context.get(), error.out()));
    OK(alora_scoring_read(scoring.get(), &probabilities_alone, error.out()));
    CHECK(again == probabilities);
}

TEST_CASE("labels that cannot be scored") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), question);
    const Labels labels;
    const alora_label_scores scores = {};
    alora_label_query query = labels.of(branch.get(), 0);
    FAILS(ALORA_ERROR_ARGUMENT, "no labels", alora_score(context.get(), &query, 1, &scores, error.out()));
    query = labels.of(nullptr);
    FAILS(ALORA_ERROR_ARGUMENT, "branch is NULL", alora_score(context.get(), &query, 1, &scores, error.out()));
    query = {branch.get(), nullptr, 2};
    FAILS(ALORA_ERROR_ARGUMENT, "labels is NULL", alora_score(context.get(), &query, 1, &scores, error.out()));
    FAILS(ALORA_ERROR_ARGUMENT, "queries is NULL", alora_score(context.get(), nullptr, 1, &scores, error.out()));
    const auto elsewhere = open_context();
    query = labels.of(branch.get());
    FAILS(ALORA_ERROR_ARGUMENT, "another context", alora_score(elsewhere.get(), &query, 1, &scores, error.out()));
    OK(alora_score(context.get(), &query, 1, &scores, error.out()));
}
