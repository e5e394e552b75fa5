// The rows that one branch added itself, in its own llama.cpp sequence, and where it forked from.
//
// A segment outlives its branch while others share its rows. All functions here are called with the context locked.
#pragma once

#include "alora/adapter.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace alora {

struct Governance {
    std::shared_ptr<const Adapter> adapter;
    float scale = 1.0f;
    int first = 0; // position from which on the adapter governs
};

struct Segment {
    int32_t seq = -1;
    std::shared_ptr<Segment> parent;
    int start = 0;             // position of its first own row
    std::vector<Token> tokens; // of its own rows, computed and queued
    int n_computed = 0;        // own rows that are in the KV cache
    int keep_from = 0;         // rows from this position on keep their logits when computed
    std::map<int, std::shared_ptr<const std::vector<float>>> logits; // by position
    std::optional<Governance> governance;
    bool open = true; // a branch holds it
    // In models with recurrent layers: whether it has their state of the row before its next one, and whether a batch
    // that failed half-way has spoiled that.
    bool has_state = true;
    bool state_lost = false;
    int n_drops = 0; // how often rows were taken out
    std::vector<Segment *> children;

    int length() const { return start + static_cast<int>(tokens.size()); }
    int computed_end() const { return start + n_computed; } // position of its first row that is not computed
    int n_queued() const { return static_cast<int>(tokens.size()) - n_computed; }
    // Who governs the row at this position; none: base weights alone.
    const Governance * governing(int position) const {
        return governance && position >= governance->first ? &*governance : nullptr;
    }
};

} // namespace alora
