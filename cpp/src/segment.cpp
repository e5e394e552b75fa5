#include "segment.hpp"

#include "adapter_handle.hpp"
#include "alora/error.hpp"
#include "context_state.hpp"
#include "lineage.h"
#include "row_lora.h"

#include <algorithm>
#include <utility>

namespace alora {

void Context::State::check_open() const {
    if (!llama) {
        throw ClosedError("the context is closed; make a new one");
    }
}

int Context::State::n_cells_used() const {
    size_t n = 0;
    for (const Segment * segment : segments) {
        n += segment->tokens.size();
    }
    return static_cast<int>(n);
}

std::shared_ptr<Segment> Context::State::make_segment(std::shared_ptr<Segment> parent, int start) {
    int32_t seq = 0;
    const auto taken = [&](int32_t candidate) {
        return std::any_of(segments.begin(), segments.end(),
                           [&](const Segment * segment) { return segment->seq == candidate; });
    };
    while (seq < n_sequences && taken(seq)) {
        ++seq;
    }
    if (seq == n_sequences) {
        throw ContextFullError("all " + std::to_string(n_sequences) +
                               " sequences are in use by branches and by closed ones that forks share; close some");
    }
    auto made = std::make_unique<Segment>();
    made->seq = seq;
    made->parent = std::move(parent);
    made->start = start;
    made->keep_from = start;
    if (made->parent) {
        made->parent->children.push_back(made.get());
    }
    segments.push_back(made.get());
    // The last reference may be a child's, dropped while the context is locked anyway.
    return {made.release(), [state = weak_from_this()](Segment * segment) {
                const std::unique_ptr<Segment> owned(segment);
                if (const auto alive = state.lock()) {
                    alive->release(*owned);
                }
            }};
}

std::shared_ptr<Segment> Context::State::open_segment() {
    check_open();
    return make_segment(nullptr, 0);
}

void Context::State::check_room_for_branch() const {
    check_open();
    if (n_open >= options.n_branches) {
        throw ContextFullError("all " + std::to_string(options.n_branches) +
                               " branches are open; close some, or make the context with a larger n_branches");
    }
}

std::shared_ptr<Segment> Context::State::fork_segment(const std::shared_ptr<Segment> & from, int at) {
    if (at < 0 || at > from->length()) {
        throw PositionError("cannot fork at position " + std::to_string(at) + ": the branch has " +
                            std::to_string(from->length()) + " rows, expected 0 to " + std::to_string(from->length()));
    }
    // The segment that holds the last shared row: an ancestor where `from` begins later.
    std::shared_ptr<Segment> origin = from;
    while (origin && at <= origin->start) {
        origin = origin->parent;
    }
    if (origin && !can_fork(*origin, at)) {
        throw PositionError("cannot fork at position " + std::to_string(at) + ": architecture '" +
                            model->architecture() + "' keeps a state of a branch's last row alone (position " +
                            std::to_string(origin->computed_end() - 1) +
                            " there) and cannot go back; fork where a branch ends, or append the tokens before that "
                            "position to a new branch");
    }
    auto segment = make_segment(origin, at);
    segment->has_state = states == nullptr || !origin;
    take_state(*segment);
    if (origin) {
        if (origin->governance && at > origin->governance->first) {
            govern(*segment, *origin->governance);
        }
        for (const Segment * holder : {from.get(), origin.get()}) {
            if (const auto last = holder->logits.find(at - 1); last != holder->logits.end()) {
                segment->logits.insert(*last);
            }
        }
    }
    update_lineage(*segment);
    return segment;
}

// Whether recurrent layers have, or will have, the state of the row before `at`, the origin's last shared one.
bool Context::State::can_fork(const Segment & origin, int at) const {
    return states == nullptr || origin.computed_end() <= at ||
           std::any_of(origin.children.begin(), origin.children.end(), [&](const Segment * child) {
               return child->start == at && child->n_computed == 0 && child->has_state;
           });
}

// Gives a fork the recurrent state of its origin's last shared row, once that is computed: from the origin, or where
// that has gone on, from another fork that has not.
void Context::State::take_state(Segment & segment) {
    if (segment.has_state) {
        return;
    }
    const Segment & origin = *segment.parent;
    const Segment * from = origin.has_state && origin.computed_end() == segment.start ? &origin : nullptr;
    for (const Segment * fork : origin.children) {
        if (from == nullptr && fork->start == segment.start && fork->n_computed == 0 && fork->has_state) {
            from = fork;
        }
    }
    if (from != nullptr) {
        llama_memory_seq_cp(states, from->seq, segment.seq, -1, -1);
        segment.has_state = true;
        segment.state_lost = from->state_lost;
        if (const auto last = from->logits.find(segment.start - 1); last != from->logits.end()) {
            segment.logits.insert(*last);
        }
    }
}

void Context::State::update_lineage(Segment & segment) {
    std::vector<graph::ancestor> ancestors;
    int end = segment.start;
    for (const Segment * from = segment.parent.get(); from != nullptr; from = from->parent.get()) {
        ancestors.push_back({from->seq, end});
        end = std::min(end, from->start);
    }
    graph::lineage_of(*llama).set(segment.seq, std::move(ancestors));
    for (Segment * child : segment.children) {
        update_lineage(*child);
    }
}

void Context::State::govern(Segment & segment, Governance governance) {
    graph::row_table_of(*llama).govern(segment.seq, governance.first, governance.adapter->handle().rows.get(),
                                       governance.scale);
    segment.governance = std::move(governance);
}

// The control token of a built-in adapter makes it govern what follows, wherever it stands. So it may stand only where
// that adapter was activated, and must.
void Context::State::check_control_tokens(const Segment & segment, const std::vector<Token> & tokens) const {
    const std::vector<BuiltInAdapter> & built_in = model->built_in_adapters();
    for (size_t i = 0; !built_in.empty() && i < tokens.size(); ++i) {
        const int position = segment.length() + static_cast<int>(i);
        const Governance * governance = segment.governing(position);
        const bool begins = governance != nullptr && governance->first == position;
        const std::optional<Token> wanted = begins ? governance->adapter->control_token() : std::nullopt;
        if (wanted && tokens[i] != *wanted) {
            throw TokenError("the first row under built-in adapter '" + governance->adapter->name() +
                             "' must be its control token " + std::to_string(*wanted) + " (" +
                             model->piece(*wanted, true) + "), found " + std::to_string(tokens[i]) +
                             "; append adapter.invocation_tokens");
        }
        const bool is_control = std::any_of(built_in.begin(), built_in.end(),
                                            [&](const BuiltInAdapter & one) { return one.control_token == tokens[i]; });
        if (is_control && !wanted) {
            throw TokenError("token " + std::to_string(tokens[i]) + " (" + model->piece(tokens[i], true) +
                             ") calls a built-in adapter; activate that adapter and append its invocation");
        }
    }
}

void Context::State::queue(Segment & segment, const std::vector<Token> & tokens, int n_logits) {
    check_open();
    if (segment.state_lost) {
        throw BackendError("a batch with rows of this branch failed half-way and spoiled its recurrent state; close "
                           "the branch");
    }
    model->check_tokens(tokens);
    check_control_tokens(segment, tokens);
    if (tokens.empty()) {
        return;
    }
    if (n_logits < 0) {
        throw ArgumentError("n_logits is " + std::to_string(n_logits) + ", expected 0 or more");
    }
    const int used = n_cells_used();
    if (tokens.size() > static_cast<size_t>(std::max(0, options.n_ctx - used))) {
        throw ContextFullError("no room for " + std::to_string(tokens.size()) + " more rows: " + std::to_string(used) +
                               " of the context's " + std::to_string(options.n_ctx) +
                               " cells are used; close branches, or make the context with a larger n_ctx");
    }
    segment.tokens.insert(segment.tokens.end(), tokens.begin(), tokens.end());
    segment.keep_from = segment.length() - std::min(n_logits, static_cast<int>(tokens.size()));
    // A fork from the last computed row can compute its logits again, except where there is no going back.
    auto last =
        states == nullptr ? decltype(segment.logits)::node_type() : segment.logits.extract(segment.computed_end() - 1);
    segment.logits.clear();
    segment.logits.insert(std::move(last));
}

std::vector<Token> Context::State::tokens_of(const Segment & segment) const {
    std::vector<Token> tokens(static_cast<size_t>(segment.length()));
    int end = segment.length();
    for (const Segment * from = &segment; from != nullptr; from = from->parent.get()) {
        const int count = end - from->start;
        std::copy_n(from->tokens.begin(), count, tokens.begin() + from->start);
        end = from->start;
    }
    return tokens;
}

void Context::State::close_segment(std::shared_ptr<Segment> segment) {
    segment->open = false;
    segment->logits.clear();
    trim(*segment);
    // A closed segment with one fork left only lengthens that one's chain: let the fork have its rows.
    if (segment->children.size() == 1) {
        absorb_parent(*segment->children.front());
    }
}

// Gives back the rows of a closed segment that no fork shares.
void Context::State::trim(Segment & segment) {
    int end = segment.start;
    for (const Segment * child : segment.children) {
        end = std::max(end, child->start);
    }
    if (end >= segment.length()) {
        return;
    }
    segment.tokens.resize(static_cast<size_t>(end - segment.start));
    segment.n_computed = std::min(segment.n_computed, end - segment.start);
    if (llama) {
        llama_memory_seq_rm(cells, segment.seq, end, -1);
    }
}

// Moves the parent's rows into `segment`. The parent is closed and has no other fork. Where it has queued rows nothing
// of `segment` is computed yet: decode() takes the rows that are shared first.
void Context::State::absorb_parent(Segment & segment) {
    const std::shared_ptr<Segment> parent = segment.parent;
    if (llama) {
        llama_memory_seq_cp(cells, parent->seq, segment.seq, parent->start, segment.start);
        llama_memory_seq_rm(cells, parent->seq, -1, -1);
    }
    if (states != nullptr) {
        if (!segment.has_state) {
            llama_memory_seq_cp(states, parent->seq, segment.seq, -1, -1);
            segment.has_state = parent->has_state;
            segment.state_lost = parent->state_lost;
        }
        llama_memory_seq_rm(states, parent->seq, -1, -1);
    }
    segment.tokens.insert(segment.tokens.begin(), parent->tokens.begin(), parent->tokens.end());
    segment.n_computed += parent->n_computed;
    segment.start = parent->start;
    segment.parent = parent->parent;
    if (segment.parent) {
        auto & siblings = segment.parent->children;
        std::replace(siblings.begin(), siblings.end(), parent.get(), &segment);
    }
    parent->children.clear();
    parent->tokens.clear();
    parent->n_computed = 0;
    parent->parent = nullptr;
    if (llama) {
        update_lineage(segment);
    }
}

// Called when nothing refers to the segment any more.
void Context::State::release(Segment & segment) {
    segments.erase(std::remove(segments.begin(), segments.end(), &segment), segments.end());
    if (llama) {
        llama_memory_seq_rm(llama_get_memory(llama.get()), segment.seq, -1, -1);
        graph::row_table_of(*llama).release(segment.seq);
        graph::lineage_of(*llama).release(segment.seq);
    }
    if (segment.parent) {
        auto & siblings = segment.parent->children;
        siblings.erase(std::remove(siblings.begin(), siblings.end(), &segment), siblings.end());
        const std::shared_ptr<Segment> parent = std::move(segment.parent);
        if (!parent->open) {
            close_segment(parent);
        }
    }
}

} // namespace alora
