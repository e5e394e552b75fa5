// Scoring and generation.
#include "support.hpp"

#include <numeric>

using namespace alora;
using namespace alora::test;

namespace {

double log_probability(std::vector<Token> prompt, const std::vector<Token> & label) {
    double sum = 0.0;
    for (const Token token : label) {
        const std::vector<float> logits = fresh_logits(prompt);
        double total = 0.0;
        for (const float logit : logits) {
            total += std::exp(static_cast<double>(logit));
        }
        sum += logits[static_cast<size_t>(token)] - std::log(total);
        prompt.push_back(token);
    }
    return sum;
}

} // namespace

TEST_CASE("labels that share beginnings and continue one another") {
    const std::vector<Token> t = some_tokens(6, 9);
    const std::vector<std::vector<Token>> labels = {{t[0]}, {t[0], t[1]}, {t[0], t[2], t[3]}, {t[4], t[1]}, {t[5]}};
    const auto context = open_context();
    const auto branch = context->branch();
    const std::vector<Token> prompt = some_tokens(15);
    branch->append(prompt);
    const LabelScores scores = score(*context, {{branch, labels}}).front();
    std::vector<double> own;
    for (size_t i = 0; i < labels.size(); ++i) {
        const double expected = log_probability(prompt, labels[i]);
        CHECK(scores.log_probabilities[i] == doctest::Approx(expected).epsilon(0.01));
        own.push_back(std::exp(expected));
    }
    own[0] -= own[1] + own[2];
    const double total = std::accumulate(own.begin(), own.end(), 0.0);
    for (size_t i = 0; i < labels.size(); ++i) {
        CHECK(scores.probabilities[i] == doctest::Approx(own[i] / total).epsilon(0.05));
    }
    CHECK(std::accumulate(scores.probabilities.begin(), scores.probabilities.end(), 0.0) == doctest::Approx(1.0));
    CHECK(scores.off_label == doctest::Approx(1.0 - total).epsilon(0.01));
    // Three inner nodes beside the prompt, in one pass, and gone.
    CHECK(context->counters().rows_decoded == 15 + 3);
    CHECK(context->counters().batches == 1);
    CHECK(context->n_cells_used() == 15);
}

TEST_CASE("labels that cannot be scored") {
    const auto context = open_context(64);
    const auto branch = context->branch();
    CHECK_THROWS_AS(score(*context, {{branch, {{1}}}}), ArgumentError);
    branch->append(some_tokens(3));
    CHECK_THROWS_AS(score(*context, {{branch, {}}}), ArgumentError);
    CHECK_THROWS_AS(score(*context, {{branch, {{}}}}), ArgumentError);
    CHECK_THROWS_AS(score(*context, {{branch, {{1, 2}, {1, 2}}}}), ArgumentError);
    CHECK_THROWS_AS(score(*context, {{branch, {{model()->n_vocab()}}}}), TokenError);
    CHECK_THROWS_AS(score(*context, {{branch, {std::vector<Token>(100, 1)}}}), ContextFullError);
    CHECK_THROWS_AS(score(*open_context(64), {{branch, {{1}}}}), ArgumentError);
    CHECK(context->n_cells_used() == 3);
    CHECK(score(*context, {{branch, {{1}}}}).front().probabilities.front() == doctest::Approx(1.0));
}

TEST_CASE("greedy generation is the argmax, step by step") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(10));
    GenerationOptions options;
    options.max_tokens = 8;
    Generation generation(context, {branch}, options);
    while (true) {
        const std::vector<Token> before = branch->tokens();
        const std::vector<GenerationStep> steps = generation.next();
        if (steps.empty()) {
            break;
        }
        const std::vector<float> logits = fresh_logits(before);
        const float best = *std::max_element(logits.begin(), logits.end());
        CHECK(logits[static_cast<size_t>(steps.front().token)] > best - close);
    }
    CHECK(branch->length() <= 18);
}

TEST_CASE("generation options outside their range are refused") {
    const auto context = open_context();
    const auto branch = context->branch();
    GenerationOptions options;
    CHECK_THROWS_AS(Generation(context, {branch}, options), ArgumentError);
    branch->append(some_tokens(2));
    options.max_tokens = 0;
    CHECK_THROWS_AS(Generation(context, {branch}, options), ArgumentError);
    options = {};
    options.temperature = std::nanf("");
    CHECK_THROWS_AS(Generation(context, {branch}, options), ArgumentError);
    options = {};
    options.stop = {""};
    CHECK_THROWS_AS(Generation(context, {branch}, options), ArgumentError);
}
