#include "memory_parts.h"

#include "llama-context.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"

namespace alora::graph {

memory_parts memory_parts_of(llama_context & ctx) {
    llama_memory_t memory = ctx.get_memory();
    if (auto * hybrid = dynamic_cast<llama_memory_hybrid *>(memory)) {
        return {hybrid->get_mem_attn(), hybrid->get_mem_recr()};
    }
    if (auto * hybrid = dynamic_cast<llama_memory_hybrid_iswa *>(memory)) {
        return {hybrid->get_mem_attn(), hybrid->get_mem_recr()};
    }
    return {memory, nullptr};
}

} // namespace alora::graph
