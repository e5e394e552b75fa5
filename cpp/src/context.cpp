#include "alora/context.hpp"

#include "alora/error.hpp"
#include "alora/processor.hpp"
#include "branch_handle.hpp"
#include "context_state.hpp"
#include "lineage.h"
#include "log.hpp"
#include "memory_check.hpp"
#include "memory_parts.h"
#include "model_handle.hpp"
#include "row_lora.h"

#include "ggml-cpu.h"

#include <algorithm>
#include <array>
#include <utility>

namespace alora {

namespace {

// llama.cpp rounds a context up to this many cells.
constexpr int cell_padding = 256;
// Wanted logits take n_vocab floats each, in the compute buffer and once more beside it. What does not fit waits for
// another pass: one row of each of 16 branches always fits, of 64 with a vocabulary of up to 32,768.
constexpr int logits_bytes = 8 << 20;
constexpr int n_outputs_least = 16;
constexpr int n_outputs_most = 64;
// A processor reads a long prompt hardly faster in larger pieces (docs/performance.md), and buffers grow with them.
constexpr int n_ubatch_cpu = 128;
constexpr int n_ubatch_gpu = 512;
// llama.cpp's LLAMA_MAX_SEQ.
constexpr int n_sequences_limit = 256;
constexpr int n_branches_default = 64;
// Tens of megabytes each in a model of three billion weights.
constexpr int n_branches_recurrent = 16;
// Room for closed segments that forks share, and for those of labels that are being scored.
constexpr int n_inner_sequences = 8;
constexpr auto interrupt_interval = std::chrono::milliseconds(50);

ggml_type kv_type_of(const std::string & name) {
    const std::array<std::pair<const char *, ggml_type>, 4> types = {{
        {"f32", GGML_TYPE_F32},
        {"f16", GGML_TYPE_F16},
        {"bf16", GGML_TYPE_BF16},
        {"q8_0", GGML_TYPE_Q8_0},
    }};
    for (const auto & [known, type] : types) {
        if (name == known) {
            return type;
        }
    }
    throw ArgumentError("kv_type is '" + name + "', expected f32, f16, bf16 or q8_0");
}

llama_flash_attn_type flash_attention_of(const std::string & name) {
    if (name == "auto") {
        return LLAMA_FLASH_ATTN_TYPE_AUTO;
    }
    if (name == "on") {
        return LLAMA_FLASH_ATTN_TYPE_ENABLED;
    }
    if (name == "off") {
        return LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    throw ArgumentError("flash_attention is '" + name + "', expected on, off or auto");
}

void check_range(const char * name, int value, int low, int high) {
    if (value < low || value > high) {
        throw ArgumentError(std::string(name) + " is " + std::to_string(value) + ", expected " + std::to_string(low) +
                            " to " + std::to_string(high));
    }
}

// Called from C between the operations of a graph.
bool abort_asked(void * data) noexcept {
    return static_cast<Context::State *>(data)->asked_to_stop();
}

} // namespace

bool Context::State::asked_to_stop() noexcept {
    const auto now = std::chrono::steady_clock::now();
    if (interrupt && now - interrupt_asked > interrupt_interval) {
        interrupt_asked = now;
        try {
            // Never set to false here: cancel() may be called while the interrupt is asked.
            if (!cancelled && interrupt()) {
                cancelled = true;
            }
        } catch (...) {
            cancelled = true;
        }
    }
    return cancelled;
}

Context::State::State(std::shared_ptr<const Model> of, ContextOptions asked)
    : model(std::move(of)), options(std::move(asked)) {
    constexpr int n_ctx_limit = 1 << 26;
    check_range("n_ctx", options.n_ctx, 0, n_ctx_limit);
    if (model->handle().vocabulary_only) {
        throw BackendError(model->path() + " was loaded with its vocabulary alone; load it with its weights");
    }
    const bool recurrent = llama_model_is_hybrid(model->handle().model.get());
    if (options.n_branches == 0) {
        options.n_branches = recurrent ? n_branches_recurrent : n_branches_default;
    }
    check_range("n_branches", options.n_branches, 1, 255);
    if (options.n_ubatch == 0) {
        options.n_ubatch = model->handle().offloaded ? n_ubatch_gpu : n_ubatch_cpu;
    }
    check_range("n_ubatch", options.n_ubatch, 1, 1 << 16);
    check_range("n_threads", options.n_threads, 0, GGML_MAX_N_THREADS);
    options.n_ctx = options.n_ctx == 0 ? model->n_ctx_train() : options.n_ctx;
    options.n_threads = options.n_threads == 0 ? n_physical_cores() : options.n_threads;
    options.n_ubatch = std::min(options.n_ubatch, options.n_ctx);
    const int n_outputs = logits_bytes / static_cast<int>(sizeof(float)) / model->n_vocab();
    n_outputs_max = std::min(options.n_ubatch, std::clamp(n_outputs, n_outputs_least, n_outputs_most));

    const int n_cells = (options.n_ctx + cell_padding - 1) / cell_padding * cell_padding;
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(n_cells);
    params.n_batch = static_cast<uint32_t>(options.n_ubatch);
    params.n_ubatch = params.n_batch;
    // With a unified cache this bounds the buffers, not the sequences, except those that keep a recurrent state.
    n_sequences = recurrent ? std::min(n_sequences_limit, options.n_branches + n_inner_sequences) : n_sequences_limit;
    params.n_seq_max = recurrent ? static_cast<uint32_t>(n_sequences) : 1;
    params.n_outputs_max = std::max(static_cast<uint32_t>(n_outputs_max), params.n_seq_max);
    params.kv_unified = true;
    params.swa_full = true;
    params.n_threads = options.n_threads;
    params.n_threads_batch = options.n_threads;
    params.type_k = kv_type_of(options.kv_type);
    params.type_v = params.type_k;
    params.flash_attn_type = flash_attention_of(options.flash_attention);
    params.no_perf = true;
    // A batch that is broken off leaves recurrent states that belong to no row.
    params.abort_callback = recurrent ? nullptr : abort_asked;
    params.abort_callback_data = this;

    check_room_for_context(*model->handle().model, params);
    ggml_threadpool_params pool = ggml_threadpool_params_default(options.n_threads);
    threads.reset(cpu_function<decltype(ggml_threadpool_new)>("ggml_threadpool_new")(&pool));
    take_error("");
    {
        const std::lock_guard<std::mutex> lock(model->handle().adapters_mutex);
        llama.reset(llama_init_from_model(model->handle().model.get(), params));
    }
    if (!llama) {
        throw BackendError("a context of " + std::to_string(options.n_ctx) +
                           " cells cannot be made: " + take_error("out of memory?"));
    }
    llama_attach_threadpool(llama.get(), threads.get(), threads.get());
    if (!graph::attach_lineage(*llama)) {
        throw BackendError("architecture '" + model->architecture() + "' has a memory that branches cannot share yet");
    }
    graph::row_table_of(*llama).use(model->handle().stacks);
    const graph::memory_parts parts = graph::memory_parts_of(*llama);
    cells = parts.cells;
    states = parts.states;
    spare_nodes = graph::spare_nodes(*model->handle().model);
}

void Context::State::check_threads() const {
    const bool needed = options.n_threads > 1 || model->handle().offloaded;
    if (needed && threads.get_deleter().process != process_id()) {
        throw BackendError("this process was forked from the one that made the context, and has none of its threads; "
                           "make a context here, or fork before");
    }
}

void Context::State::turn_keys() {
    check_threads();
    // Broken off half-way, some keys would be turned once more by the next decode.
    llama_set_abort_callback(llama.get(), nullptr, nullptr);
    take_error("");
    const bool turned = graph::turn_keys(*llama);
    const std::string error = take_error(""); // llama.cpp only logs some failures
    llama_set_abort_callback(llama.get(), abort_asked, this);
    if (!turned || !error.empty()) {
        throw BackendError("moving rows failed: " + error + "; close the branch");
    }
}

std::shared_ptr<Context> Context::create(std::shared_ptr<const Model> model, const ContextOptions & options) {
    return std::shared_ptr<Context>(new Context(std::make_shared<State>(std::move(model), options)));
}

Context::Context(std::shared_ptr<State> state) : state_(std::move(state)) {}
Context::~Context() = default;

Context::State & Context::state() const {
    return *state_;
}

const std::shared_ptr<const Model> & Context::model() const {
    return state_->model;
}

int Context::n_ctx() const {
    return state_->options.n_ctx;
}

int Context::n_cells_used() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->n_cells_used();
}

int Context::n_branches() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->n_open;
}

std::shared_ptr<Branch> Context::branch() {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->check_room_for_branch();
    return Branch::Handle::make(state_, state_->open_segment());
}

void Context::decode() {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->decode();
}

void Context::cancel() {
    state_->cancelled = true;
}

void Context::resume() {
    state_->cancelled = false;
}

void Context::set_interrupt(std::function<bool()> interrupt) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->interrupt = std::move(interrupt);
}

void Context::close() {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->cells = nullptr;
    state_->states = nullptr;
    state_->llama.reset();
    state_->threads.reset();
}

bool Context::closed() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return !state_->llama;
}

ContextCounters Context::counters() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    ContextCounters counters = state_->counters;
    if (state_->llama) {
        counters.graphs_reused = static_cast<uint64_t>(llama_perf_context(state_->llama.get()).n_reused);
        counters.compute_bytes = graph::compute_bytes(*state_->llama);
    }
    return counters;
}

} // namespace alora
