#include "alora/branch.hpp"

#include "alora/error.hpp"
#include "branch_handle.hpp"

#include <cmath>
#include <mutex>
#include <utility>

namespace alora {

std::shared_ptr<Branch> Branch::Handle::make(std::shared_ptr<Context::State> context,
                                             std::shared_ptr<Segment> segment) {
    // Without a context until nothing can fail any more: a branch that goes locks it, and the caller has the lock.
    std::shared_ptr<Branch> branch(new Branch(std::make_unique<Handle>()));
    Handle & handle = branch->handle();
    handle.context = std::move(context);
    handle.segment = std::move(segment);
    ++handle.context->n_open;
    return branch;
}

Segment & Branch::Handle::open() const {
    context->check_open();
    if (!segment) {
        throw ClosedError("the branch is closed; fork or make another one");
    }
    return *segment;
}

void Branch::Handle::close() {
    if (!context) {
        return;
    }
    const std::lock_guard<std::mutex> lock(context->mutex);
    if (segment) {
        --context->n_open;
        context->close_segment(std::move(segment));
        segment = nullptr;
    }
}

std::vector<float> Branch::Handle::kept_logits(const Segment & of, int rows) {
    std::vector<float> values;
    for (int position = of.length() - rows; position < of.length(); ++position) {
        const auto kept = of.logits.find(position);
        if (kept == of.logits.end()) {
            return {};
        }
        values.insert(values.end(), kept->second->begin(), kept->second->end());
    }
    return values;
}

Branch::Branch(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}

Branch::~Branch() {
    handle_->close();
}

Branch::Handle & Branch::handle() const {
    return *handle_;
}

void Branch::append(const std::vector<Token> & tokens, int n_logits) {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    handle_->context->queue(handle_->open(), tokens, n_logits);
}

std::shared_ptr<Branch> Branch::fork(std::optional<int> at) const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    const Segment & from = handle_->open();
    Context::State & context = *handle_->context;
    context.check_room_for_branch();
    return Handle::make(handle_->context, context.fork_segment(handle_->segment, at.value_or(from.length())));
}

void Branch::activate(std::shared_ptr<const Adapter> adapter, float scale) {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    Segment & segment = handle_->open();
    if (!std::isfinite(scale)) {
        throw ArgumentError("the scale of adapter '" + adapter->name() + "' is no finite number; 1.0 is as trained");
    }
    if (adapter->model() != handle_->context->model) {
        throw AdapterMismatchError("adapter '" + adapter->name() + "' was loaded for the model " +
                                   adapter->model()->path() + ", the branch belongs to " +
                                   handle_->context->model->path() + "; load it for that one");
    }
    if (adapter->control_token() && scale != 1.0f) {
        throw ArgumentError("adapter '" + adapter->name() +
                            "' is built into the model, which has no scale for it; "
                            "expected 1.0");
    }
    if (segment.governance && segment.length() > segment.governance->first) {
        throw AdapterError("adapter '" + segment.governance->adapter->name() + "' governs this branch since position " +
                           std::to_string(segment.governance->first) + "; fork before that position to activate '" +
                           adapter->name() + "'");
    }
    handle_->context->govern(segment, {std::move(adapter), scale, segment.length()});
}

std::vector<float> Branch::logits(int rows) const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    const Segment & segment = handle_->open();
    if (rows < 1 || rows > segment.length()) {
        throw PositionError("logits of the last " + std::to_string(rows) + " rows were asked for, but the branch has " +
                            std::to_string(segment.length()));
    }
    if (segment.n_queued() > 0) {
        throw PositionError(std::to_string(segment.n_queued()) + " rows are queued; decode() the context first");
    }
    if (std::vector<float> kept = Handle::kept_logits(segment, rows); !kept.empty()) {
        return kept;
    }
    const std::vector<Token> tokens = handle_->context->tokens_of(segment);
    const auto again = handle_->context->fork_segment(handle_->segment, segment.length() - rows);
    again->open = false;
    if (segment.governance) {
        handle_->context->govern(*again, *segment.governance);
    }
    handle_->context->queue(*again, {tokens.end() - rows, tokens.end()}, rows);
    handle_->context->decode();
    return Handle::kept_logits(*again, rows);
}

int Branch::length() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    return handle_->open().length();
}

int Branch::n_queued() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    return handle_->open().n_queued();
}

std::vector<Token> Branch::tokens() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    return handle_->context->tokens_of(handle_->open());
}

std::shared_ptr<const Adapter> Branch::adapter() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    const Segment & segment = handle_->open();
    return segment.governance ? segment.governance->adapter : nullptr;
}

std::optional<int> Branch::activation_position() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    const Segment & segment = handle_->open();
    return segment.governance ? std::optional<int>(segment.governance->first) : std::nullopt;
}

std::vector<uint8_t> Branch::kv_bytes() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    const Segment & segment = handle_->open();
    llama_context * llama = handle_->context->llama.get();
    std::vector<uint8_t> bytes(llama_state_seq_get_size(llama, segment.seq));
    bytes.resize(llama_state_seq_get_data(llama, bytes.data(), bytes.size(), segment.seq));
    return bytes;
}

void Branch::close() {
    handle_->close();
}

bool Branch::closed() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    return !handle_->segment || !handle_->context->llama;
}

} // namespace alora
