// The one caller of llama_decode: queued rows in, logits out.
#include "adapter_handle.hpp"
#include "alora/error.hpp"
#include "context_state.hpp"
#include "log.hpp"
#include "row_lora.h"

#include <algorithm>
#include <exception>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

namespace alora {

struct Row {
    Segment * segment;
    int position;
    int group;   // rows of one adapter at one scale; 0: base
    bool wanted; // its logits

    Token token() const { return segment->tokens[static_cast<size_t>(position - segment->start)]; }
};

namespace {

// llama_batch over vectors of ours.
class LlamaBatch {
public:
    explicit LlamaBatch(const std::vector<Row> & rows) : sequences_(rows.size()) {
        for (size_t i = 0; i < rows.size(); ++i) {
            const Row & row = rows[i];
            sequences_[i] = row.segment->seq;
            tokens_.push_back(row.token());
            positions_.push_back(row.position);
            counts_.push_back(1);
            pointers_.push_back(&sequences_[i]);
            outputs_.push_back(row.wanted ? 1 : 0);
        }
    }

    llama_batch get() {
        return {static_cast<int32_t>(tokens_.size()),
                tokens_.data(),
                nullptr,
                positions_.data(),
                counts_.data(),
                pointers_.data(),
                outputs_.data()};
    }

private:
    std::vector<llama_seq_id> sequences_;
    std::vector<llama_token> tokens_;
    std::vector<llama_pos> positions_;
    std::vector<int32_t> counts_;
    std::vector<llama_seq_id *> pointers_;
    std::vector<int8_t> outputs_;
};

// Up to which position a segment's rows can be computed now. A fork waits for the recurrent state of the row before its
// first, and its origin stops behind that row until the fork has taken it.
int computable_end(const Segment & segment) {
    int end = segment.has_state ? segment.length() : segment.start;
    for (const Segment * child : segment.children) {
        if (!child->has_state && child->start > segment.computed_end()) {
            end = std::min(end, child->start);
        }
    }
    return end;
}

// Whether a fork takes its state, and its first logits, from this row.
bool is_awaited(const Segment & segment, int position) {
    return std::any_of(segment.children.begin(), segment.children.end(),
                       [&](const Segment * child) { return !child->has_state && child->start == position + 1; });
}

// Queued rows in the order in which they are computed: base rows first, then adapter after adapter, each by position.
// So a row never comes before one that it attends to, and each adapter's rows lie together in the graph.
std::vector<Row> queued_rows(const std::vector<Segment *> & segments, std::vector<uint32_t> & group_nodes) {
    std::map<std::pair<uint64_t, float>, int> groups;
    std::vector<Row> rows;
    group_nodes = {0};
    for (Segment * segment : segments) {
        const int end = computable_end(*segment);
        for (int position = segment->computed_end(); position < end; ++position) {
            int group = 0;
            if (const Governance * governance = segment->governing(position)) {
                const graph::row_adapter & adapter = *governance->adapter->handle().rows;
                const auto added =
                    groups.emplace(std::pair(adapter.id, governance->scale), static_cast<int>(group_nodes.size()));
                group = added.first->second;
                if (added.second) {
                    group_nodes.push_back(graph::adapter_nodes(adapter));
                }
            }
            rows.push_back(
                {segment, position, group, position >= segment->keep_from || is_awaited(*segment, position)});
        }
    }
    std::stable_sort(rows.begin(), rows.end(), [](const Row & left, const Row & right) {
        return std::tie(left.group, left.position) < std::tie(right.group, right.position);
    });
    return rows;
}

// Commits a computed batch: its rows leave the queue, wanted logits go to their segments.
void commit(llama_context * llama, const std::vector<Row> & rows, int n_vocab) {
    for (size_t i = 0; i < rows.size(); ++i) {
        const Row & row = rows[i];
        ++row.segment->n_computed;
        if (row.wanted) {
            const float * logits = llama_get_logits_ith(llama, static_cast<int32_t>(i));
            row.segment->logits[row.position] = std::make_shared<const std::vector<float>>(logits, logits + n_vocab);
        }
    }
}

// Undoes what a batch that failed has left in the memory.
void forget(const Context::State & context, const std::vector<Row> & rows) {
    for (const Row & row : rows) {
        llama_memory_seq_rm(context.cells, row.segment->seq, row.position, row.position + 1);
        row.segment->state_lost = context.states != nullptr;
    }
}

int run(const Context::State & context, const std::vector<Row> & rows) {
    LlamaBatch batch(rows);
    take_error("");
    try {
        const int status = llama_decode(context.llama.get(), batch.get());
        if (status < 0) {
            forget(context, rows);
        }
        return status;
    } catch (const std::exception & error) {
        forget(context, rows);
        throw BackendError(std::string("computing a batch failed: ") + error.what());
    }
}

} // namespace

void Context::State::decode() {
    check_open();
    check_threads();
    std::vector<uint32_t> group_nodes;
    std::vector<Row> rows;
    do {
        // First of all: a decode that was cancelled may have left forks waiting.
        for (Segment * segment : segments) {
            take_state(*segment);
        }
        rows = queued_rows(segments, group_nodes);
        compute(rows, group_nodes);
    } while (!rows.empty());
}

int Context::State::n_queued() const {
    int n = 0;
    for (const Segment * segment : segments) {
        n += segment->n_queued();
    }
    return n;
}

void Context::State::compute(const std::vector<Row> & rows, const std::vector<uint32_t> & group_nodes) {
    size_t next = 0;
    while (next < rows.size()) {
        std::vector<Row> batch;
        int n_outputs = 0;
        uint32_t n_nodes = 0;
        for (; next < rows.size() && batch.size() < static_cast<size_t>(options.n_ubatch); ++next) {
            const Row & row = rows[next];
            const bool enters_group = batch.empty() || batch.back().group != row.group;
            const uint32_t more_nodes = enters_group ? group_nodes[static_cast<size_t>(row.group)] : 0;
            const int more_outputs = row.wanted ? 1 : 0;
            if (n_outputs + more_outputs > n_outputs_max || n_nodes + more_nodes > spare_nodes) {
                break;
            }
            n_outputs += more_outputs;
            n_nodes += more_nodes;
            batch.push_back(row);
        }
        const int status = asked_to_stop() ? 2 : run(*this, batch);
        if (status == 2) {
            cancelled = false;
            throw Cancelled("decoding was cancelled with " + std::to_string(n_queued()) +
                            " rows queued; decode again to go on, or close the branches");
        }
        if (status == 1) {
            throw ContextFullError("no free KV cells for a batch of " + std::to_string(batch.size()) +
                                   " rows; close branches");
        }
        if (status != 0) {
            throw BackendError("computing a batch of " + std::to_string(batch.size()) +
                               " rows failed: " + take_error("status " + std::to_string(status)));
        }
        commit(llama.get(), batch, model->n_vocab());
        counters.rows_decoded += batch.size();
        ++counters.batches;
    }
}

} // namespace alora
