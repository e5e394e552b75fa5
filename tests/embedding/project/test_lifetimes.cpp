// Who keeps whom, threads, cancelling, closing, and the log.
#include "support.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <future>
#include <stdexcept>
#include <thread>

namespace {

// Enough rows for a decode of many passes.
std::vector<alora_token> long_prompt() {
    std::vector<alora_token> tokens;
    const std::vector<alora_token> part = tokens_of(question, true);
    for (int i = 0; i < 30; ++i) {
        tokens.insert(tokens.end(), part.begin(), part.end());
    }
    return tokens;
}

alora_next stop(void * asked) {
    ++*static_cast<int *>(asked);
    return ALORA_STOP;
}

alora_next throws(void * /*user_data*/) {
    throw std::runtime_error("out of an interrupt");
}

struct Log {
    std::atomic<int> lines{0};
    bool throws = false;
};

void count_lines(alora_log_level level, const char * text, void * log) {
    CHECK(level >= ALORA_LOG_DEBUG);
    CHECK(level <= ALORA_LOG_ERROR);
    CHECK(text != nullptr);
    ++static_cast<Log *>(log)->lines;
    if (static_cast<Log *>(log)->throws) {
        throw std::runtime_error("out of a log sink");
    }
}

// A decode that waits in its middle until another thread has done something, however the machine shares its time.
struct Meeting {
    std::promise<void> running;
    std::promise<void> done;
    bool met = false;
};

alora_next meet(void * user_data) {
    auto & meeting = *static_cast<Meeting *>(user_data);
    if (!meeting.met) {
        meeting.met = true;
        meeting.running.set_value();
        meeting.done.get_future().wait();
    }
    return ALORA_GO_ON;
}

alora_context * signalled = nullptr;

void cancel_it(int /*number*/) {
    alora_context_cancel(signalled, nullptr);
}

} // namespace

TEST_CASE("handles are freed in any order") {
    Owned<alora_model> base = load_model();
    alora_adapter * loaded = nullptr;
    OK(alora_adapter_load(base.get(), adapter_path("safety").c_str(), nullptr, &loaded, error.out()));
    Owned<alora_adapter> adapter(loaded);
    alora_context_options options;
    OK(alora_context_options_init(&options, sizeof(options), error.out()));
    options.n_ctx = 128;
    options.n_threads = 1;
    alora_context * made = nullptr;
    OK(alora_context_create(base.get(), &options, &made, error.out()));
    Owned<alora_context> context(made);
    const auto fork = [&] {
        const auto trunk = open_branch(context.get(), question);
        return fork_of(trunk.get());
    }();
    OK(alora_branch_activate(fork.get(), adapter.get(), 1.0f, error.out()));
    alora_branch * one = fork.get();
    alora_generation * generation = nullptr;
    OK(alora_generation_create(context.get(), &one, 1, nullptr, &generation, error.out()));
    const Owned<alora_generation> writing(generation);
    base.reset();
    adapter.reset();
    context.reset();
    size_t n = 0;
    OK(alora_generation_next(writing.get(), nullptr, nullptr, &n, error.out()));
    CHECK(n == 1);
    CHECK(info_of(fork.get()).activation_position > 0);
}

TEST_CASE("closed handles say so until they are freed") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), question);
    const auto other = open_branch(context.get());
    OK(alora_branch_close(branch.get(), error.out()));
    OK(alora_branch_close(branch.get(), error.out()));
    CHECK(info_of(branch.get()).closed);
    CHECK(info_of(branch.get()).activation_position == ALORA_END);
    CHECK(info_of(context.get()).n_cells_used == 0);
    const alora_token token = tokens_of("a").front();
    FAILS(ALORA_ERROR_CLOSED, "", alora_branch_append(branch.get(), &token, 1, 1, error.out()));
    OK(alora_context_close(context.get(), error.out()));
    CHECK(info_of(context.get()).closed);
    CHECK(info_of(other.get()).closed);
    FAILS(ALORA_ERROR_CLOSED, "", alora_branch_append(other.get(), &token, 1, 1, error.out()));
    FAILS(ALORA_ERROR_CLOSED, "", alora_context_decode(context.get(), error.out()));
    alora_branch * none = nullptr;
    FAILS(ALORA_ERROR_CLOSED, "", alora_context_branch(context.get(), &none, error.out()));
}

TEST_CASE("an adapter serves its own model alone") {
    const auto again = load_model();
    alora_adapter * loaded = nullptr;
    OK(alora_adapter_load(again.get(), adapter_path("safety").c_str(), nullptr, &loaded, error.out()));
    const Owned<alora_adapter> stranger(loaded);
    const auto context = open_context();
    const auto branch = open_branch(context.get(), question);
    FAILS(ALORA_ERROR_ADAPTER_MISMATCH, "load it for that one",
          alora_branch_activate(branch.get(), stranger.get(), 1.0f, error.out()));
}

TEST_CASE("a cancelled decode leaves its rows queued; resume takes a cancel back") {
    const auto context = open_context();
    const auto branch = open_branch(context.get(), question);
    OK(alora_context_cancel(context.get(), error.out()));
    OK(alora_context_resume(context.get(), error.out()));
    OK(alora_context_decode(context.get(), error.out()));
    const auto fork = open_branch(context.get(), question);
    OK(alora_context_cancel(context.get(), error.out()));
    FAILS(ALORA_ERROR_CANCELLED, "", alora_context_decode(context.get(), error.out()));
    CHECK(info_of(fork.get()).n_queued > 0);
    OK(alora_context_decode(context.get(), error.out()));
    CHECK(logits_of(fork.get()) == logits_of(branch.get()));
}

TEST_CASE("another thread, or a signal handler, cancels a running decode") {
    const std::vector<alora_token> prompt = long_prompt();
    const auto context = open_context(1024);
    const auto branch = open_branch(context.get());
    OK(alora_branch_append(branch.get(), prompt.data(), prompt.size(), 1, error.out()));
    SUBCASE("thread") {
        Meeting meeting;
        OK(alora_context_set_interrupt(context.get(), meet, &meeting, error.out()));
        std::thread other([&] {
            meeting.running.get_future().wait();
            CHECK(alora_context_cancel(context.get(), nullptr) == ALORA_OK);
            meeting.done.set_value();
        });
        FAILS(ALORA_ERROR_CANCELLED, "", alora_context_decode(context.get(), error.out()));
        other.join();
    }
    SUBCASE("signal") {
        signalled = context.get();
        const auto before = std::signal(SIGINT, cancel_it);
        std::raise(SIGINT);
        FAILS(ALORA_ERROR_CANCELLED, "", alora_context_decode(context.get(), error.out()));
        std::signal(SIGINT, before);
    }
    CHECK(info_of(branch.get()).n_queued > 0);
}

TEST_CASE("an interrupt is asked while computing, and stops it") {
    const std::vector<alora_token> prompt = long_prompt();
    const auto context = open_context(1024);
    const auto branch = open_branch(context.get());
    OK(alora_branch_append(branch.get(), prompt.data(), prompt.size(), 1, error.out()));
    int asked = 0;
    OK(alora_context_set_interrupt(context.get(), stop, &asked, error.out()));
    FAILS(ALORA_ERROR_CANCELLED, "", alora_context_decode(context.get(), error.out()));
    CHECK(asked > 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(60)); // it is not asked more often than that
    OK(alora_context_set_interrupt(context.get(), throws, nullptr, error.out()));
    FAILS(ALORA_ERROR_CANCELLED, "", alora_context_decode(context.get(), error.out()));
    OK(alora_context_set_interrupt(context.get(), nullptr, nullptr, error.out()));
    OK(alora_context_decode(context.get(), error.out()));
}

TEST_CASE("two threads on one model and one context get what one gets") {
    const auto context = open_context();
    const auto adapter = load_adapter("safety");
    const auto work = [&](std::vector<float> & logits) {
        for (int i = 0; i < 5; ++i) {
            const auto branch = open_branch(context.get(), question);
            OK(alora_branch_activate(branch.get(), adapter.get(), 1.0f, error.out()));
            const auto more = tokens_of("and when?");
            OK(alora_branch_append(branch.get(), more.data(), more.size(), 1, error.out()));
            OK(alora_context_decode(context.get(), error.out()));
            logits = logits_of(branch.get());
        }
    };
    std::vector<float> alone;
    work(alone);
    std::vector<float> left;
    std::vector<float> right;
    std::thread other([&] { work(left); });
    work(right);
    other.join();
    // Batches of other sizes round differently.
    for (size_t i = 0; i < alone.size(); ++i) {
        CHECK(left[i] == doctest::Approx(alone[i]).epsilon(0.05).scale(10.0));
        CHECK(right[i] == doctest::Approx(alone[i]).epsilon(0.05).scale(10.0));
    }
    CHECK(info_of(context.get()).n_cells_used == 0);
}

TEST_CASE("the log goes to its sink, and one that throws does no harm") {
    Log log;
    OK(alora_set_log_sink(count_lines, &log, error.out()));
    load_model();
    const int lines = log.lines;
    CHECK(lines > 0);
    log.throws = true;
    load_model();
    CHECK(log.lines > lines);
    OK(alora_set_log_sink(nullptr, nullptr, error.out()));
    const int more = log.lines;
    load_model();
    CHECK(log.lines == more);
}
