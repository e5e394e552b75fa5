// What a Context holds: llama.cpp's context, the segments in it, and who waits for whom.
#pragma once

#include "alora/context.hpp"
#include "cpu_function.hpp"
#include "process.hpp"
#include "segment.hpp"

#include "llama.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace alora {

struct LlamaContextDeleter {
    void operator()(llama_context * context) const { llama_free(context); }
};
struct ThreadpoolDeleter {
    int process = process_id();
    // A forked process has a copy of the pool without its threads: it would wait for them for ever.
    void operator()(ggml_threadpool * pool) const {
        if (process == process_id()) {
            cpu_function<decltype(ggml_threadpool_free)>("ggml_threadpool_free")(pool);
        }
    }
};

struct Row; // batch.cpp's: one queued row

// Locks are taken by the public classes; every function here expects the caller to hold `mutex`.
struct Context::State : std::enable_shared_from_this<Context::State> {
    State(std::shared_ptr<const Model> of, ContextOptions asked);

    // Segments. A handle's last reference gives the segment back, see release().
    std::shared_ptr<Segment> open_segment();
    std::shared_ptr<Segment> fork_segment(const std::shared_ptr<Segment> & from, int at);
    void close_segment(std::shared_ptr<Segment> segment);
    void queue(Segment & segment, const std::vector<Token> & tokens, int n_logits);
    void check_control_tokens(const Segment & segment, const std::vector<Token> & tokens) const;
    void govern(Segment & segment, Governance governance);
    std::vector<Token> tokens_of(const Segment & segment) const;
    int n_cells_used() const;
    int n_queued() const;
    void check_open() const;
    void check_threads() const; // that they are in this process
    void check_room_for_branch() const;

    // Computes all queued rows.
    void decode();
    // Whether cancel() was called, or the interrupt says so now.
    bool asked_to_stop() noexcept;
    // Turns the keys of rows that were moved; nothing breaks it off.
    void turn_keys();

    const std::shared_ptr<const Model> model;
    ContextOptions options;
    std::mutex mutex;
    std::atomic<bool> cancelled{false};
    std::function<bool()> interrupt;
    std::chrono::steady_clock::time_point interrupt_asked;
    ContextCounters counters;
    std::vector<Segment *> segments; // live ones, in the order they were made
    int n_open = 0;
    uint32_t spare_nodes = 0;
    int n_outputs_max = 0;
    int n_sequences = 0; // llama.cpp's, one for each segment

    // In this order: the context goes before the threads it computes on.
    std::unique_ptr<ggml_threadpool, ThreadpoolDeleter> threads;
    std::unique_ptr<llama_context, LlamaContextDeleter> llama;
    llama_memory_t cells = nullptr;  // the context's KV cells
    llama_memory_t states = nullptr; // and what its recurrent layers keep; none in most models

private:
    void compute(const std::vector<Row> & rows, const std::vector<uint32_t> & group_nodes);
    std::shared_ptr<Segment> make_segment(std::shared_ptr<Segment> parent, int start);
    void release(Segment & segment);
    void trim(Segment & segment);
    void absorb_parent(Segment & segment);
    void update_lineage(Segment & segment);
    bool can_fork(const Segment & origin, int at) const;
    void take_state(Segment & segment);
};

} // namespace alora
