// Scoring and generation.
#include "context_state.hpp"
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

void check_equal(const std::vector<LabelScores> & left, const std::vector<LabelScores> & right) {
    REQUIRE(left.size() == right.size());
    for (size_t i = 0; i < left.size(); ++i) {
        REQUIRE(left[i].log_probabilities.size() == right[i].log_probabilities.size());
        for (size_t k = 0; k < left[i].log_probabilities.size(); ++k) {
            CHECK(left[i].log_probabilities[k] == doctest::Approx(right[i].log_probabilities[k]).epsilon(close / 40));
            CHECK(left[i].probabilities[k] == doctest::Approx(right[i].probabilities[k]).epsilon(close / 8));
        }
        CHECK(left[i].off_label == doctest::Approx(right[i].off_label).epsilon(close / 40));
    }
}

const std::vector<std::vector<Token>> & some_labels() {
    static const std::vector<Token> t = some_tokens(6, 9);
    static const std::vector<std::vector<Token>> labels = {{t[0]}, {t[0], t[1]}, {t[0], t[2], t[3]}, {t[4], t[1]}};
    return labels;
}

std::vector<uint32_t> mask_of(const std::vector<Token> & tokens) {
    std::vector<uint32_t> mask((static_cast<size_t>(model()->n_vocab()) + 31) / 32);
    for (const Token token : tokens) {
        mask[static_cast<size_t>(token) / 32] |= 1U << (static_cast<unsigned>(token) % 32U);
    }
    return mask;
}

} // namespace

TEST_CASE("labels that share beginnings and continue one another") {
    const std::vector<Token> t = some_tokens(6, 9);
    const std::vector<std::vector<Token>> labels = {{t[0]}, {t[0], t[1]}, {t[0], t[2], t[3]}, {t[4], t[1]}, {t[5]}};
    const auto context = open_context();
    const auto branch = context->branch();
    const std::vector<Token> prompt = some_tokens(15);
    branch->append(prompt);
    const LabelScores scores = score(context, {{branch, labels}}).front();
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
    CHECK_THROWS_AS(score(context, {{branch, {{1}}}}), ArgumentError);
    branch->append(some_tokens(3));
    CHECK_THROWS_AS(score(context, {{branch, {}}}), ArgumentError);
    CHECK_THROWS_AS(score(context, {{branch, {{}}}}), ArgumentError);
    CHECK_THROWS_AS(score(context, {{branch, {{1, 2}, {1, 2}}}}), ArgumentError);
    CHECK_THROWS_AS(score(context, {{branch, {{model()->n_vocab()}}}}), TokenError);
    CHECK_THROWS_AS(score(context, {{branch, {std::vector<Token>(100, 1)}}}), ContextFullError);
    CHECK_THROWS_AS(score(open_context(64), {{branch, {{1}}}}), ArgumentError);
    CHECK(context->n_cells_used() == 3);
    CHECK(score(context, {{branch, {{1}}}}).front().probabilities.front() == doctest::Approx(1.0));
}

TEST_CASE("queued scores go through whatever decodes next") {
    const auto context = open_context();
    const auto first = context->branch();
    first->append(some_tokens(12));
    const auto second = context->branch();
    second->append(some_tokens(9, 2));
    const auto speaker = context->branch();
    speaker->append(some_tokens(8, 3));
    const Scoring one(context, {{first, some_labels()}, {second, some_labels()}});
    const Scoring two(context, {{first, {{1}, {2, 3}}}});
    CHECK_THROWS_AS(one.read(), PositionError);
    Generation generation(context, {speaker}, {});
    REQUIRE(generation.next().size() == 1);
    // The prompts, three inner nodes a query, one more: all in one pass.
    CHECK(context->counters().batches == 1);
    CHECK(context->counters().rows_decoded == 12 + 9 + 8 + 3 + 3 + 1);
    const auto alone = open_context();
    const auto same = alone->branch();
    same->append(some_tokens(12));
    const auto other = alone->branch();
    other->append(some_tokens(9, 2));
    check_equal(one.read(), score(alone, {{same, some_labels()}, {other, some_labels()}}));
    check_equal(two.read(), score(alone, {{same, {{1}, {2, 3}}}}));
    generation.next();
    check_equal(one.read(), one.read());
}

TEST_CASE("scores of a branch that went on or is closed are not read") {
    for (const bool computed : {false, true}) {
        CAPTURE(computed);
        const auto context = open_context();
        const auto begin = [&] {
            auto branch = context->branch();
            branch->append(some_tokens(12));
            if (computed) {
                context->decode();
            }
            return branch;
        };
        for (const auto & labels : {some_labels(), std::vector<std::vector<Token>>{{1}}}) {
            const auto went_on = begin();
            const Scoring early(context, {{went_on, labels}});
            went_on->append({1});
            context->decode();
            CHECK_THROWS_AS(early.read(), PositionError);

            const auto goes_on = begin();
            const Scoring late(context, {{goes_on, labels}});
            context->decode();
            CHECK_NOTHROW(late.read());
            goes_on->append({1});
            CHECK_THROWS_AS(late.read(), PositionError);
            context->decode();
            CHECK_THROWS_AS(late.read(), PositionError);

            const auto closes = begin();
            const Scoring closed(context, {{closes, labels}});
            context->decode();
            closes->close();
            CHECK_THROWS_AS(closed.read(), PositionError);
        }
    }
}

TEST_CASE("rows queued without logits are scored all the same") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(12), 0);
    const Scoring scoring(context, {{branch, some_labels()}});
    context->decode();
    CHECK(context->counters().rows_decoded == 12 + 3);
    CHECK_NOTHROW(scoring.read());
}

TEST_CASE("scores are not read from a row that took the dropped one's place") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(12));
    const Scoring scoring(context, {{branch, {{1}, {2}}}});
    context->decode();
    CHECK_NOTHROW(scoring.read());
    branch->drop(11, 12);
    branch->append(some_tokens(1, 5));
    context->decode();
    CHECK_THROWS_AS(scoring.read(), PositionError);
    CHECK_NOTHROW(score(context, {{branch, {{1}, {2, 3}}}}));
    CHECK_NOTHROW(score(context, {{branch->fork(6), {{1}, {2, 3}}}}));
}

TEST_CASE("scores of computed rows need no decode where all labels are single tokens") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(12));
    context->decode();
    const Scoring scoring(context, {{branch, {{1}, {2}}}});
    const uint64_t rows = context->counters().rows_decoded;
    check_equal(scoring.read(), score(context, {{branch, {{1}, {2}}}}));
    CHECK(context->counters().rows_decoded == rows);
}

TEST_CASE("scores that nobody reads leave nothing behind") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(12));
    {
        const Scoring unread(context, {{branch, some_labels()}});
        CHECK(context->n_cells_used() == 12 + 3);
    }
    CHECK(context->n_cells_used() == 12);
    {
        const Scoring unread(context, {{branch, some_labels()}});
        context->decode();
    }
    CHECK(context->n_cells_used() == 12);
    CHECK(context->n_branches() == 1);
    {
        const Scoring orphan(context, {{branch, some_labels()}});
        branch->close();
        CHECK(context->n_cells_used() == 12 + 3);
    }
    CHECK(context->n_cells_used() == 0);
    CHECK(context->state().segments.empty());
}

TEST_CASE("scores do not outlive their context's closing, only the objects do") {
    auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(12));
    const auto scoring = std::make_unique<Scoring>(context, std::vector<LabelQuery>{{branch, some_labels()}});
    context->decode();
    context->close();
    CHECK_THROWS_AS(scoring->read(), ClosedError);
    CHECK_THROWS_AS(Scoring(context, {{branch, some_labels()}}), ClosedError);
    context.reset();
}

TEST_CASE("a cancelled decode leaves queued scores to the next one") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(12));
    const Scoring scoring(context, {{branch, some_labels()}});
    context->cancel();
    CHECK_THROWS_AS(context->decode(), Cancelled);
    CHECK_THROWS_AS(scoring.read(), PositionError);
    context->decode();
    const auto alone = open_context();
    const auto same = alone->branch();
    same->append(some_tokens(12));
    check_equal(scoring.read(), score(alone, {{same, some_labels()}}));
}

TEST_CASE("no room for one query's nodes: none of them stay") {
    const auto context = open_context(16);
    const auto branch = context->branch();
    branch->append(some_tokens(12));
    CHECK_THROWS_AS(Scoring(context, {{branch, some_labels()}, {branch, some_labels()}}), ContextFullError);
    CHECK(context->n_cells_used() == 12);
    CHECK_NOTHROW(score(context, {{branch, some_labels()}}));
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

TEST_CASE("a mask holds for the next token alone") {
    const std::vector<Token> allowed = some_tokens(3, 20);
    const std::vector<Token> prompt = some_tokens(10);
    GenerationOptions options;
    options.max_tokens = 6;
    SUBCASE("greedy") {}
    SUBCASE("sampled") {
        options.temperature = 2.0f;
        options.top_k = 2;
        options.top_p = 0.9f;
        options.min_p = 0.01f;
    }
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(prompt);
    const auto free = context->branch();
    free->append(prompt);
    Generation generation(context, {branch, free}, options);
    generation.restrict_next(0, mask_of(allowed));
    const auto steps = generation.next();
    REQUIRE(steps.size() == 2);
    CHECK(std::count(allowed.begin(), allowed.end(), steps[0].token) == 1);
    if (options.temperature == 0.0f) {
        const std::vector<float> logits = fresh_logits(prompt);
        const auto by_logit = [&](Token left, Token right) {
            return logits[static_cast<size_t>(left)] < logits[static_cast<size_t>(right)];
        };
        const Token best = *std::max_element(allowed.begin(), allowed.end(), by_logit);
        CHECK(logits[static_cast<size_t>(steps[0].token)] > logits[static_cast<size_t>(best)] - close);
        CHECK(*std::max_element(logits.begin(), logits.end()) - logits[static_cast<size_t>(steps[1].token)] < close);
        // The next one is free again: as if the masked token had been appended by hand.
        std::vector<Token> longer = prompt;
        longer.push_back(steps[0].token);
        const std::vector<float> later = fresh_logits(longer);
        const Token next = generation.next().front().token;
        CHECK(*std::max_element(later.begin(), later.end()) - later[static_cast<size_t>(next)] < close);
    }
}

TEST_CASE("one token allowed is the token made, and the last mask counts") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(10));
    GenerationOptions options;
    options.temperature = 1.0f;
    Generation generation(context, {branch}, options);
    const Token highest = model()->n_vocab() - 1;
    for (const Token token : {some_tokens(1, 3).front(), some_tokens(1, 4).front(), highest}) {
        generation.restrict_next(0, mask_of({0}));
        generation.restrict_next(0, mask_of({token}));
        const auto steps = generation.next();
        REQUIRE(steps.size() == 1);
        CHECK(steps.front().token == token);
        if (steps.front().finish != FinishReason::none) {
            break;
        }
    }
}

TEST_CASE("masks that are none are refused and change nothing") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(10));
    Generation generation(context, {branch}, {});
    const Token token = some_tokens(1, 7).front();
    generation.restrict_next(0, mask_of({token}));
    std::vector<uint32_t> mask = mask_of({});
    CHECK_THROWS_AS(generation.restrict_next(0, mask), ArgumentError);
    CHECK_THROWS_AS(generation.restrict_next(0, {}), ArgumentError);
    if (model()->n_vocab() % 32 != 0) {
        mask.back() = 0xffffffffU << static_cast<unsigned>(model()->n_vocab() % 32); // stand for no token
        CHECK_THROWS_AS(generation.restrict_next(0, mask), ArgumentError);
    }
    mask = mask_of({1});
    CHECK_THROWS_AS(generation.restrict_next(1, mask), ArgumentError);
    CHECK_THROWS_AS(generation.restrict_next(-1, mask), ArgumentError);
    mask.push_back(1);
    CHECK_THROWS_AS(generation.restrict_next(0, mask), ArgumentError);
    mask.resize(mask.size() - 2);
    CHECK_THROWS_AS(generation.restrict_next(0, mask), ArgumentError);
    CHECK(generation.next().front().token == token);
}
