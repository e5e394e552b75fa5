// A branch's rows as bytes, and what moves rows: save(), restore(), drop().
//
// The bytes: magic, a checksum of the rest, what the model and the cache must be, the tokens, and llama.cpp's own state
// of their cells.
#include "alora/error.hpp"
#include "branch_handle.hpp"
#include "log.hpp"
#include "model_handle.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <utility>

namespace alora {

namespace {

constexpr std::array<char, 8> magic = {'a', 'l', 'o', 'r', 'a', 'k', 'v', '1'};

// FNV-1a over words of eight bytes. Damaged positions would leave cells that nobody could free.
uint64_t checksum(const uint8_t * data, size_t size) {
    uint64_t sum = 14695981039346656037ULL ^ size;
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        std::memcpy(&word, data + i, std::min(sizeof(word), size - i));
        sum = (sum ^ word) * 1099511628211ULL;
    }
    return sum;
}

void put(std::vector<uint8_t> & out, const void * data, size_t size) {
    const auto * begin = static_cast<const uint8_t *>(data);
    out.insert(out.end(), begin, begin + size);
}

void put_sized(std::vector<uint8_t> & out, const void * data, size_t size) {
    const uint64_t number = size;
    put(out, &number, sizeof(number));
    put(out, data, size);
}

class Reader {
public:
    explicit Reader(const std::vector<uint8_t> & in) : in_(in) {}

    const uint8_t * bytes(size_t size) {
        if (size > n_left()) {
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
    std::pair<const uint8_t *, size_t> sized() {
        const size_t size = number();
        return {bytes(size), size};
    }
    size_t n_left() const { return in_.size() - at_; }

private:
    const std::vector<uint8_t> & in_;
    size_t at_ = 0;
};

// A branch's rows, its ancestors' among them, as sequence 0: llama.cpp writes that one's cells alone so that it can
// read them again (n_seq_max is 1 but in hybrid models). No KV is moved; whose sequence that is steps aside meanwhile.
class Gathered {
public:
    Gathered(Context::State & context, const Segment & last)
        : memory_(llama_get_memory(context.llama.get())), aside_(context.open_segment()) {
        move(0, aside_->seq);
        const auto now = [&](const Segment & segment) { return segment.seq == 0 ? aside_->seq : segment.seq; };
        int end = last.length();
        for (const Segment * from = &last; from != nullptr; from = from->parent.get()) {
            // Rows that a fork does not share belong to others.
            llama_memory_seq_cp(context.cells, now(*from), 0, from->start, end);
            end = from->start;
        }
        if (context.states != nullptr) {
            llama_memory_seq_cp(context.states, now(last), 0, -1, -1);
        }
    }
    ~Gathered() {
        llama_memory_seq_rm(memory_, 0, -1, -1);
        move(aside_->seq, 0);
    }
    Gathered(const Gathered &) = delete;
    Gathered & operator=(const Gathered &) = delete;

private:
    void move(int32_t from, int32_t to) {
        if (from != to) {
            llama_memory_seq_cp(memory_, from, to, -1, -1);
            llama_memory_seq_rm(memory_, from, -1, -1);
        }
    }

    llama_memory_t memory_;
    std::shared_ptr<Segment> aside_;
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
    int n_queued = 0; // shared rows may be queued, too
    int end = segment.length();
    for (const Segment * from = &segment; from != nullptr; from = from->parent.get()) {
        n_queued += std::max(0, end - from->start - from->n_computed);
        end = from->start;
    }
    if (n_queued > 0) {
        throw PositionError(std::to_string(n_queued) + " rows are queued; decode() the context first");
    }
}

// The value of an architecture's key.
std::string metadata_of(const Model & model, const std::string & key, const std::string & otherwise) {
    const auto found = model.metadata().find(model.architecture() + "." + key);
    return found == model.metadata().end() ? otherwise : found->second;
}

int head_width(const Model & model) {
    const int split = model.n_embd() / std::max(1, llama_model_n_head(model.handle().model.get()));
    return std::stoi(metadata_of(model, "attention.key_length", std::to_string(split)));
}

// Turning keys goes over the whole cache. Where it does more than turn, other branches would change, or ggml would end
// the process: YaRN lengthens every key each time, and llama.cpp turns quantized heads of 64 and its multiples alone.
void check_turnable(const Context::State & state) {
    const Model & model = *state.model;
    const std::string & kv_type = state.options.kv_type;
    if (!llama_memory_can_shift(llama_get_memory(state.llama.get()))) {
        throw BackendError("architecture '" + model.architecture() +
                           "' has positions that cannot be moved; append the remaining tokens to a new branch");
    }
    if (metadata_of(model, "rope.scaling.type", "none") == "yarn" ||
        std::stof(metadata_of(model, "rope.scaling.attn_factor", "1")) != 1.0f) {
        throw BackendError("this model's rotation of keys also scales them, so they cannot be turned to other "
                           "positions; append the remaining tokens to a new branch");
    }
    if (kv_type == "bf16" || (kv_type == "q8_0" && head_width(model) % 64 != 0)) {
        throw BackendError("keys in a " + kv_type + " cache of heads " + std::to_string(head_width(model)) +
                           " wide cannot be turned to other positions; make the context with kv_type f16 or f32");
    }
}

} // namespace

std::vector<uint8_t> Branch::save() const {
    const std::lock_guard<std::mutex> lock(handle_->context->mutex);
    Context::State & context = *handle_->context;
    const Segment & last = handle_->open();
    check_plain(last, "saved");
    const std::string model = fit(context);
    const std::vector<Token> tokens = context.tokens_of(last);
    std::vector<uint8_t> out(magic.begin(), magic.end());
    constexpr size_t n_before = magic.size() + sizeof(uint64_t); // the checksum's place
    out.resize(n_before);
    put_sized(out, model.data(), model.size());
    put_sized(out, tokens.data(), tokens.size() * sizeof(Token));
    {
        const Gathered gathered(context, last);
        const size_t at = out.size();
        out.resize(at + llama_state_seq_get_size(context.llama.get(), 0));
        out.resize(at + llama_state_seq_get_data(context.llama.get(), out.data() + at, out.size() - at, 0));
    }
    const uint64_t sum = checksum(out.data() + n_before, out.size() - n_before);
    std::memcpy(out.data() + magic.size(), &sum, sizeof(sum));
    return out;
}

std::shared_ptr<Branch> Context::restore(const std::vector<uint8_t> & bytes) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->check_room_for_branch();
    Reader in(bytes);
    if (bytes.size() < magic.size() || !std::equal(magic.begin(), magic.end(), in.bytes(magic.size()))) {
        throw ArgumentError("these bytes are no saved branch; expected what Branch::save() wrote");
    }
    const uint64_t sum = in.number();
    if (sum != checksum(bytes.data() + bytes.size() - in.n_left(), in.n_left())) {
        throw ArgumentError("the saved branch is damaged or cut off: its " + std::to_string(bytes.size()) +
                            " bytes are not those that were saved; save it again");
    }
    const auto [model, n_model] = in.sized();
    if (const std::string saved(model, model + n_model); saved != fit(*state_)) {
        throw ArgumentError("the branch was saved from another model or cache (" + saved + "), this one is (" +
                            fit(*state_) + ")");
    }
    const auto [ids, n_ids] = in.sized();
    std::vector<Token> tokens(n_ids / sizeof(Token));
    std::copy_n(ids, tokens.size() * sizeof(Token), reinterpret_cast<uint8_t *>(tokens.data()));
    const size_t n_kv = in.n_left();
    const uint8_t * kv = in.bytes(n_kv);
    auto segment = state_->open_segment();
    state_->queue(*segment, tokens, 0);
    take_error("");
    if (llama_state_seq_set_data(state_->llama.get(), kv, n_kv, segment->seq) == 0) {
        throw ArgumentError("the saved branch cannot be put back: " + take_error("its KV data is of another kind"));
    }
    segment->n_computed = static_cast<int>(tokens.size());
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
    if (begin == end) {
        return;
    }
    if (handle_->context->states != nullptr) {
        throw BackendError("architecture '" + handle_->context->model->architecture() +
                           "' keeps a state that cannot forget single rows; append the remaining tokens to a new "
                           "branch");
    }
    const bool moves = end < segment.length();
    if (moves) {
        check_turnable(*handle_->context);
    }
    llama_memory_t memory = llama_get_memory(handle_->context->llama.get());
    llama_memory_seq_rm(memory, segment.seq, begin, end);
    llama_memory_seq_add(memory, segment.seq, end, -1, begin - end);
    const auto first = segment.tokens.begin() - segment.start;
    segment.tokens.erase(first + begin, first + end);
    segment.n_computed -= end - begin;
    ++segment.n_drops;
    segment.keep_from = segment.length();
    segment.logits.clear();
    if (moves) {
        handle_->context->turn_keys();
    }
}

} // namespace alora
