// Contexts: options, cancellation, threads.
#include "support.hpp"

#include <atomic>
#include <future>
#include <thread>
#include <utility>

using namespace alora;
using namespace alora::test;

TEST_CASE("options outside their range are refused") {
    const auto attempt = [](auto change) {
        ContextOptions options;
        options.n_ctx = 64;
        change(options);
        return Context::create(model(), options);
    };
    CHECK_THROWS_AS(attempt([](auto & o) { o.n_ctx = -1; }), ArgumentError);
    CHECK_THROWS_AS(attempt([](auto & o) { o.n_branches = -1; }), ArgumentError);
    CHECK_THROWS_AS(attempt([](auto & o) { o.n_branches = 256; }), ArgumentError);
    CHECK_THROWS_AS(attempt([](auto & o) { o.n_ubatch = -1; }), ArgumentError);
    CHECK_THROWS_AS(attempt([](auto & o) { o.n_threads = -1; }), ArgumentError);
    CHECK_THROWS_AS(attempt([](auto & o) { o.kv_type = "f64"; }), ArgumentError);
    CHECK_THROWS_AS(attempt([](auto & o) { o.flash_attention = "maybe"; }), ArgumentError);
    CHECK(attempt([](auto & o) { o.n_ctx = 0; })->n_ctx() == model()->n_ctx_train());
    CHECK(attempt([](auto & o) { o.n_ctx = 1; })->n_ctx() == 1);
}

TEST_CASE("an idle context cancels its next decode only") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(5));
    context->cancel();
    CHECK_THROWS_AS(context->decode(), Cancelled);
    CHECK(branch->n_queued() == 5);
    CHECK_NOTHROW(context->decode());
}

TEST_CASE("a cancellation that nothing ran into can be taken back") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(5));
    context->cancel();
    context->resume();
    CHECK_NOTHROW(context->decode());
    CHECK(branch->n_queued() == 0);
    context->resume(); // nothing to take back
    branch->append(some_tokens(1));
    context->cancel();
    CHECK_THROWS_AS(context->decode(), Cancelled);
    CHECK_NOTHROW(context->decode());
}

TEST_CASE("cancelling from another thread ends the decode that runs") {
    const auto context = open_context(4096, 4, 16);
    const std::vector<Token> tokens = some_tokens(4000);
    // The computing thread waits in its middle for the other, so that no machine is too fast.
    std::promise<void> running;
    std::promise<void> cancelled;
    context->set_interrupt([&, told = false]() mutable {
        if (!std::exchange(told, true)) {
            running.set_value();
            cancelled.get_future().wait();
        }
        return false;
    });
    const auto branch = context->branch();
    branch->append(tokens);
    std::thread other([&] {
        running.get_future().wait();
        context->cancel();
        cancelled.set_value();
    });
    CHECK_THROWS_AS(context->decode(), Cancelled);
    other.join();
    context->set_interrupt({});
    CHECK(branch->n_queued() > 0);
    CHECK(branch->length() == 4000);
    // What is left is what was asked for.
    const auto fork = branch->fork(100);
    branch->close();
    context->decode();
    CHECK(distance(fork->logits(), fresh_logits({tokens.begin(), tokens.begin() + 100})) < close);
}

TEST_CASE("an interrupt callback cancels") {
    const auto context = open_context(4096, 4, 4096);
    const auto branch = context->branch();
    branch->append(some_tokens(4000));
    int asked = 0;
    context->set_interrupt([&] { return ++asked > 0; });
    CHECK_THROWS_AS(context->decode(), Cancelled);
    CHECK(asked == 1);
    context->set_interrupt([]() -> bool { throw std::runtime_error("broken"); });
    CHECK_THROWS_AS(context->decode(), Cancelled);
    context->set_interrupt({});
}

TEST_CASE("contexts of one model compute on threads of their own") {
    const std::vector<Token> tokens = some_tokens(50);
    const std::vector<float> expected = fresh_logits(tokens);
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < 5; ++round) {
                const std::vector<float> logits = fresh_logits(tokens);
                right += std::equal(logits.begin(), logits.end(), expected.begin()) ? 1 : 0;
            }
        });
    }
    for (std::thread & thread : threads) {
        thread.join();
    }
    CHECK(right == 20);
}

TEST_CASE("threads on one context wait for one another") {
    const auto context = open_context();
    const auto trunk = context->branch();
    trunk->append(some_tokens(40));
    context->decode();
    std::atomic<int> done{0};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (unsigned i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
            for (unsigned round = 0; round < 20; ++round) {
                const auto branch = trunk->fork(static_cast<int>(40 - round));
                branch->append(some_tokens(3, 100 * i + round));
                context->decode();
                score(context, {{branch, {{1}, {2, 3}}}});
                ++done;
            }
        });
    }
    for (std::thread & thread : threads) {
        thread.join();
    }
    CHECK(done == 80);
    CHECK(context->n_cells_used() == 40);
    CHECK(context->n_branches() == 1);
}
