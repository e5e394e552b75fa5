// A branch's rows as bytes, and what moves rows: save(), restore(), drop().
//
// The bytes: magic, what the model and the cache must be, then for every segment from the root on its first position,
// its tokens and llama.cpp's own state of its sequence.
#include "alora/error.hpp"
#include "branch_handle.hpp"
#include "log.hpp"
#include "model_handle.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <utility>

namespace alora {

namespace {

constexpr std::array<char, 8> magic = {'a', 'l', 'o', 'r', 'a', 'k', 'v', '1'};

class Writer {
public:
    void bytes(const void * data, size_t size) {
        const auto * begin = static_cast<const uint8_t *>(data);
        out_.insert(out_.end(), begin, begin + size);
    }
    void number(uint64_t value) { bytes(&value, sizeof(value)); }
    void text(const std::string & value) {
        number(value.size());
        bytes(value.data(), value.size());
    }
    std::vector<uint8_t> take() { return std::move(out_); }

private:
    std::vector<uint8_t> out_;
};

class Reader {
public:
    explicit Reader(const std::vector<uint8_t> & in) : in_(in) {}

    const uint8_t * bytes(size_t size) {
        if (size > in_.size() - at_) {
            throw ArgumentError("the saved branch is cut off at byte " + std::to_string(in_.size()) +
                                "; save it again");
        }
        const uint8_t * data = in_.data() + at_;
        at_ += size;
        return data;
    }
    uint64_t number() {
        uint64_t value = 0;
        std::memcpy(&value, bytes(sizeof(value)), sizeof(value));
        return value;
    }
    int count(uint64_t most) {
        const uint64_t value = number();
        if (value > most) {
            throw ArgumentError("the saved branch is damaged: it counts " + std::to_string(value) + " where at most " +
                                std::to_string(most) + " can be; save it again");
        }
        return static_cast<int>(value);
    }
    std::string text() {
        const size_t size = number();
        const uint8_t * data = bytes(size);
        return {data, data + size};
    }
    bool at_end() const { return at_ == in_.size(); }

private:
    const std::vector<uint8_t> & in_;
    size_t at_ = 0;
};

// What must be equal for saved KV to mean the same.
std::string fit(const Context::State & state) {
    const Model & model = *state.model;
    return model.architecture() + ", " + std::to_string(model.n_layer()) + " blocks, width " +
           std::to_string(model.n_embd()) + ", " + std::to_string(model.n_vocab()) + " tokens, " +
           std::to_string(model.n_parameters()) + " weights, cache " + state.options.kv_type;
}

void check_plain(const Segment & segment, const char * what) {
    if (segment.governance) {
        throw AdapterError(std::string("a branch governed by adapter '") + segment.governance->adapter->name() +
                           "' cannot be " + what + "; only what the base model read can");
    }
    if (segment.n_queued() > 0) {
        throw PositionError(std::to_string(segment.n_queued()) + " rows are queued; decode() the context first");
    }
}

} // namespace

std::vector<uint8_t> Branch::save() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    const Segment & last = handle_->open();
    check_plain(last, "saved");
    std::vector<const Segment *> chain;
    for (const Segment * segment = &last; segment != nullptr; segment = segment->parent.get()) {
        chain.push_back(segment);
    }
    std::reverse(chain.begin(), chain.end());
    Writer out;
    out.bytes(magic.data(), magic.size());
    out.text(fit(*handle_->context));
    out.number(chain.size());
    llama_context * llama = handle_->context->llama.get();
    for (size_t i = 0; i < chain.size(); ++i) {
        const Segment & segment = *chain[i];
        // Rows that a fork does not share belong to others.
        const int end = i + 1 < chain.size() ? chain[i + 1]->start : segment.length();
        out.number(static_cast<uint64_t>(segment.start));
        out.number(static_cast<uint64_t>(end - segment.start));
        out.bytes(segment.tokens.data(), static_cast<size_t>(end - segment.start) * sizeof(Token));
        std::vector<uint8_t> kv(llama_state_seq_get_size(llama, segment.seq));
        kv.resize(llama_state_seq_get_data(llama, kv.data(), kv.size(), segment.seq));
        out.number(kv.size());
        out.bytes(kv.data(), kv.size());
    }
    return out.take();
}

std::shared_ptr<Branch> Context::restore(const std::vector<uint8_t> & bytes) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->check_room_for_branch();
    Reader in(bytes);
    if (bytes.size() < magic.size() || !std::equal(magic.begin(), magic.end(), in.bytes(magic.size()))) {
        throw ArgumentError("these bytes are no saved branch; expected what Branch::save() wrote");
    }
    if (const std::string saved = in.text(); saved != fit(*state_)) {
        throw ArgumentError("the branch was saved from another model or cache (" + saved + "), this one is (" +
                            fit(*state_) + ")");
    }
    const auto n_ctx = static_cast<uint64_t>(state_->options.n_ctx);
    std::shared_ptr<Segment> segment;
    for (int left = in.count(n_ctx); left > 0; --left) {
        const int start = in.count(n_ctx);
        std::vector<Token> tokens(static_cast<size_t>(in.count(std::numeric_limits<int32_t>::max() / sizeof(Token))));
        const uint8_t * ids = in.bytes(tokens.size() * sizeof(Token));
        std::memcpy(tokens.data(), ids, tokens.size() * sizeof(Token));
        const size_t n_kv = in.number();
        const uint8_t * kv = in.bytes(n_kv);
        if (segment ? start > segment->length() : start != 0) {
            throw ArgumentError("the saved branch is damaged: rows are missing before " + std::to_string(start));
        }
        segment = segment ? state_->fork_segment(segment, start) : state_->open_segment();
        state_->queue(*segment, tokens, 0);
        take_error("");
        if (!tokens.empty() && llama_state_seq_set_data(state_->llama.get(), kv, n_kv, segment->seq) == 0) {
            throw ArgumentError("the saved branch cannot be put back: " + take_error("its KV data is damaged"));
        }
        segment->n_computed = static_cast<int>(tokens.size());
        // Rows that others had put behind the shared ones.
        llama_memory_seq_rm(llama_get_memory(state_->llama.get()), segment->seq, segment->length(), -1);
    }
    if (!segment || !in.at_end()) {
        throw ArgumentError("the saved branch is damaged: it does not end where its last rows do; save it again");
    }
    return Branch::Handle::make(state_, std::move(segment));
}

void Branch::drop(int begin, int end) {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    Segment & segment = handle_->open();
    check_plain(segment, "shortened");
    if (begin < segment.start || begin > end || end > segment.length()) {
        throw PositionError("rows " + std::to_string(begin) + " to " + std::to_string(end) +
                            " cannot be dropped: the branch holds rows " + std::to_string(segment.start) + " to " +
                            std::to_string(segment.length()) + " alone");
    }
    if (!segment.children.empty()) {
        throw PositionError("rows cannot be dropped while forks of the branch share them; close the forks first");
    }
    llama_memory_t memory = llama_get_memory(handle_->context->llama.get());
    if (!llama_memory_can_shift(memory)) {
        throw BackendError("architecture '" + handle_->context->model->architecture() +
                           "' has positions that cannot be moved; append the remaining tokens to a new branch");
    }
    if (begin == end) {
        return;
    }
    llama_memory_seq_rm(memory, segment.seq, begin, end);
    llama_memory_seq_add(memory, segment.seq, end, -1, begin - end);
    const auto first = segment.tokens.begin() - segment.start;
    segment.tokens.erase(first + begin, first + end);
    segment.n_computed -= end - begin;
    segment.keep_from = segment.length();
    segment.logits.clear();
}

} // namespace alora
