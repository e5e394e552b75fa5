#include "memory_parts.h"

#include "llama-context.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"

namespace alora::graph {

llama_memory_t row_cells(llama_context & ctx) {
    llama_memory_t memory = ctx.get_memory();
    if (auto * hybrid = dynamic_cast<llama_memory_hybrid *>(memory)) {
        return hybrid->get_mem_attn();
    }
    if (auto * hybrid = dynamic_cast<llama_memory_hybrid_iswa *>(memory)) {
        return hybrid->get_mem_attn();
    }
    return memory;
}

llama_memory_t recurrent_states(llama_context & ctx) {
    llama_memory_t memory = ctx.get_memory();
    if (auto * hybrid = dynamic_cast<llama_memory_hybrid *>(memory)) {
        return hybrid->get_mem_recr();
    }
    if (auto * hybrid = dynamic_cast<llama_memory_hybrid_iswa *>(memory)) {
        return hybrid->get_mem_recr();
    }
    return nullptr;
}

} // namespace alora::graph
