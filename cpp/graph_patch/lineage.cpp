#include "lineage.h"

#include "llama-context.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "memory_parts.h"

#include <utility>

namespace alora::graph {

void lineage_table::set(int32_t seq, std::vector<ancestor> ancestors) {
    if (ancestors_.size() <= static_cast<size_t>(seq)) {
        ancestors_.resize(static_cast<size_t>(seq) + 1);
    }
    ancestors_[static_cast<size_t>(seq)] = std::move(ancestors);
}

void lineage_table::release(int32_t seq) {
    if (static_cast<size_t>(seq) < ancestors_.size()) {
        ancestors_[static_cast<size_t>(seq)].clear();
    }
}

lineage_table & lineage_of(llama_context & ctx) {
    return ctx.lineage;
}

bool attach_lineage(llama_context & ctx) {
    llama_memory_t memory = memory_parts_of(ctx).cells;
    if (auto * cache = dynamic_cast<llama_kv_cache *>(memory)) {
        cache->lineage = &ctx.lineage;
        return true;
    }
    if (auto * caches = dynamic_cast<llama_kv_cache_iswa *>(memory)) {
        caches->get_base()->lineage = &ctx.lineage;
        caches->get_swa()->lineage = &ctx.lineage;
        return true;
    }
    return false;
}

bool turn_keys(llama_context & ctx) noexcept {
    try {
        return ctx.memory_update(false);
    } catch (...) {
        return false;
    }
}

} // namespace alora::graph
