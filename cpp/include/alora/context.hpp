// A context: the KV cache and compute buffers in which branches of one model live.
//
// Threads: one thread at a time works on a context and its branches; calls from several are safe, they wait for one
// another. cancel() alone may be called while another call runs. Contexts of one model are independent.
#pragma once

#include "alora/export.h"
#include "alora/model.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace alora {

class Branch;

struct ContextOptions {
    int n_ctx = 0;                        // KV cells that all branches share; 0: what the model was trained for
    int n_branches = 0;                   // branches open at a time, at most 255; 0: 64, with recurrent layers 16
    int n_ubatch = 0;                     // rows computed at a time; 0: 128, with layers on a GPU 512
    int n_threads = 0;                    // 0: one for each physical core
    std::string kv_type = "f16";          // f32, f16, bf16 or q8_0
    std::string flash_attention = "auto"; // on, off or auto
};

struct ContextCounters {
    uint64_t rows_decoded = 0; // every row computed since the context began
    uint64_t batches = 0;      // passes through the model that took
    uint64_t graphs_reused = 0;
    uint64_t compute_bytes = 0; // compute buffers now; they grow only when a batch needs more than any before
};

class ALORA_API Context {
public:
    // Throws ArgumentError for an option outside its range, BackendError where buffers cannot be had.
    static std::shared_ptr<Context> create(std::shared_ptr<const Model> model, const ContextOptions & options = {});

    ~Context();
    Context(const Context &) = delete;
    Context & operator=(const Context &) = delete;

    const std::shared_ptr<const Model> & model() const;
    int n_ctx() const;
    int n_cells_used() const; // cells held by rows, computed or queued
    int n_branches() const;   // open now

    // An empty branch. Throws ContextFullError when n_branches are open.
    std::shared_ptr<Branch> branch();
    // A branch as Branch::save() wrote it, from a context of the same model and KV type. Throws ArgumentError for bytes
    // that are none, ContextFullError.
    std::shared_ptr<Branch> restore(const std::vector<uint8_t> & bytes);

    // Computes every queued row of every branch, in as few passes as n_ubatch allows; rows of different adapters and of
    // none share passes. Throws Cancelled or BackendError; rows not computed by then stay queued.
    void decode();

    // Makes the running decode, or else the next one, throw Cancelled. Safe from any thread.
    void cancel();
    // Takes back a cancel() that nothing has run into yet.
    void resume();
    // Asked now and then while computing, on the computing thread; true cancels. Empty: never asked.
    void set_interrupt(std::function<bool()> interrupt);

    // Frees everything; branches of this context throw ClosedError from then on.
    void close();
    bool closed() const;

    ContextCounters counters() const;

    struct ALORA_LOCAL State;
    State & state() const; // for the library itself

private:
    explicit Context(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
};

} // namespace alora
