// Branches and the segments under them.
#include "branch_handle.hpp"
#include "support.hpp"

using namespace alora;
using namespace alora::test;

namespace {

const Segment & segment_of(const std::shared_ptr<Branch> & branch) {
    return *branch->handle().segment;
}

size_t n_segments(const std::shared_ptr<Context> & context) {
    return context->state().segments.size();
}

} // namespace

TEST_CASE("a fork shares its origin's segment and has none of its cells") {
    const auto context = open_context();
    const auto trunk = context->branch();
    trunk->append(some_tokens(20));
    context->decode();
    const auto fork = trunk->fork(12);
    CHECK((segment_of(fork).parent.get() == &segment_of(trunk)));
    CHECK(segment_of(fork).start == 12);
    CHECK(segment_of(fork).tokens.empty());
    CHECK(fork->length() == 12);
    CHECK(context->n_cells_used() == 20);
    // At or before a segment's start, its origin is what is shared.
    const auto earlier = fork->fork(5);
    CHECK((segment_of(earlier).parent.get() == &segment_of(trunk)));
    CHECK_FALSE(static_cast<bool>(segment_of(trunk->fork(0)).parent));
}

TEST_CASE("closing gives back what no fork shares") {
    const auto context = open_context();
    const auto trunk = context->branch();
    trunk->append(some_tokens(20));
    context->decode();
    const auto first = trunk->fork(12);
    const auto second = trunk->fork(7);
    first->append(some_tokens(3, 2));
    trunk->close();
    CHECK(context->n_cells_used() == 12 + 3);
    CHECK(n_segments(context) == 3);
    first->close();
    // The last fork takes the closed origin's rows over.
    CHECK(context->n_cells_used() == 7);
    CHECK(n_segments(context) == 1);
    CHECK(segment_of(second).start == 0);
    CHECK(segment_of(second).n_computed == 7);
    second->close();
    CHECK(context->n_cells_used() == 0);
    CHECK(n_segments(context) == 0);
}

TEST_CASE("queued rows are taken over, too") {
    const auto context = open_context();
    auto branch = context->branch();
    std::vector<Token> tokens = some_tokens(5);
    branch->append(tokens);
    for (unsigned i = 0; i < 300; ++i) {
        const std::vector<Token> more = some_tokens(1, i);
        tokens.push_back(more.front());
        branch->append(more);
        auto fork = branch->fork();
        branch->close();
        branch = fork;
        CHECK(n_segments(context) == 1);
        if (i % 7 == 0) {
            context->decode();
        }
    }
    context->decode();
    CHECK(branch->tokens() == tokens);
    CHECK(distance(branch->logits(), fresh_logits(tokens)) < close);
}

TEST_CASE("rows of one pass are in the order of their positions, each branch's logits its own") {
    const auto context = open_context(512, 64, 8);
    const auto trunk = context->branch();
    trunk->append(some_tokens(30));
    std::vector<std::shared_ptr<Branch>> forks;
    for (int i = 0; i < 6; ++i) {
        forks.push_back(trunk->fork(30 - 4 * i));
        forks.back()->append(some_tokens(3 + i, static_cast<unsigned>(10 + i)));
    }
    context->decode();
    CHECK(context->counters().rows_decoded == 30 + 3 + 4 + 5 + 6 + 7 + 8);
    CHECK(context->counters().batches >= 8);
    for (const auto & fork : forks) {
        CHECK(fork->n_queued() == 0);
        CHECK(distance(fork->logits(), fresh_logits(fork->tokens())) < close);
    }
}

TEST_CASE("logits of several rows") {
    const auto context = open_context();
    const auto branch = context->branch();
    const std::vector<Token> tokens = some_tokens(12);
    branch->append(tokens, 4);
    context->decode();
    const uint64_t rows = context->counters().rows_decoded;
    const std::vector<float> kept = branch->logits(4);
    CHECK(context->counters().rows_decoded == rows);
    const auto n_vocab = static_cast<size_t>(model()->n_vocab());
    REQUIRE(kept.size() == 4 * n_vocab);
    for (int i = 0; i < 4; ++i) {
        const std::vector<Token> prefix(tokens.begin(), tokens.end() - 3 + i);
        const auto begin = kept.begin() + i * static_cast<int>(n_vocab);
        CHECK(distance({begin, begin + static_cast<int>(n_vocab)}, fresh_logits(prefix)) < close);
    }
    CHECK(branch->logits(12).size() == 12 * n_vocab);
    CHECK(context->n_cells_used() == 12);
}

TEST_CASE("what cannot be done throws its own error and changes nothing") {
    const auto context = open_context(64, 2);
    const auto branch = context->branch();
    branch->append(some_tokens(10));
    CHECK_THROWS_AS(branch->logits(), PositionError);
    context->decode();
    CHECK_THROWS_AS(branch->fork(11), PositionError);
    CHECK_THROWS_AS(branch->fork(-1), PositionError);
    CHECK_THROWS_AS(branch->logits(11), PositionError);
    CHECK_THROWS_AS(branch->logits(0), PositionError);
    CHECK_THROWS_AS(branch->append({model()->n_vocab()}), TokenError);
    CHECK_THROWS_AS(branch->append({-1}), TokenError);
    CHECK_THROWS_AS(branch->append(some_tokens(1), -1), ArgumentError);
    CHECK_THROWS_AS(branch->append(some_tokens(55)), ContextFullError);
    const auto other = context->branch();
    CHECK_THROWS_AS(context->branch(), ContextFullError);
    CHECK_THROWS_AS(branch->fork(), ContextFullError);
    CHECK(branch->length() == 10);
    CHECK(distance(branch->logits(), fresh_logits(branch->tokens())) < close);
}

TEST_CASE("what was closed says so") {
    auto context = open_context();
    const auto branch = context->branch();
    const auto other = context->branch();
    branch->append(some_tokens(3));
    branch->close();
    branch->close();
    CHECK(branch->closed());
    CHECK_THROWS_AS(branch->append(some_tokens(1)), ClosedError);
    CHECK_THROWS_AS(branch->fork(), ClosedError);
    CHECK_THROWS_AS((void)branch->length(), ClosedError);
    context->close();
    CHECK(other->closed());
    CHECK_THROWS_AS(other->append(some_tokens(1)), ClosedError);
    CHECK_THROWS_AS(context->decode(), ClosedError);
    CHECK_THROWS_AS(context->branch(), ClosedError);
    // Branches may outlive the last reference to their context.
    context.reset();
    CHECK_THROWS_AS(other->append(some_tokens(1)), ClosedError);
}

TEST_CASE("a branch outlives the last references to its context and model") {
    auto context = Context::create(Model::load(model_path()));
    const auto branch = context->branch();
    context.reset();
    branch->append(some_tokens(3));
    CHECK(branch->length() == 3);
}
