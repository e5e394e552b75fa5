// Which cells a forked sequence sees, inside llama.cpp's KV cache.
//
// A fork gives its sequence no cell of its parent's. Instead the context knows, for each sequence, its ancestors and up
// to which position it shares each of them, and the attention mask asks here. So a fork costs the same at any length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

struct llama_context;

namespace alora::graph {

// A sequence shares the cells of `seq` at positions before `end`.
struct ancestor {
    int32_t seq;
    int32_t end;
};

class lineage_table {
public:
    void set(int32_t seq, std::vector<ancestor> ancestors);
    void release(int32_t seq);

    // Called by the KV cache: may rows of `seq` attend to this cell, as far as its owner is concerned?
    template <typename Cells>
    bool sees(const Cells & cells, uint32_t cell, int32_t seq) const {
        if (cells.seq_has(cell, seq)) {
            return true;
        }
        if (static_cast<size_t>(seq) >= ancestors_.size()) {
            return false;
        }
        for (const ancestor & from : ancestors_[static_cast<size_t>(seq)]) {
            if (cells.seq_has(cell, from.seq)) {
                return cells.pos_get(cell) < from.end;
            }
        }
        return false;
    }

private:
    std::vector<std::vector<ancestor>> ancestors_;
};

// The table of a context; attach makes its KV cache use it and returns false where the model's attention layers have no
// plain KV cache, which alone can share cells this way.
lineage_table & lineage_of(llama_context & ctx);
bool attach_lineage(llama_context & ctx);

// Turns the keys of cells that were moved to their new positions now, not before the next batch. False: it failed.
bool turn_keys(llama_context & ctx) noexcept;

} // namespace alora::graph
