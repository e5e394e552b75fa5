/* Attention of few or many rows to one KV cache, on the CPU: the query heads that share keys, and the rows of all
   branches, go side by side through one pass over keys and values.

   ggml's own operation reads the whole cache anew for every row of every query head until a head has 64 rows. Here a
   cache that eight branches share is read once for all of them: keys times queries is a product of matrices, with a
   column for each row of each head. Sums are in 32 bits, and no column depends on who stands beside it. */
#ifndef ALORA_PACKED_ATTENTION_H
#define ALORA_PACKED_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_compute_params;
struct ggml_tensor;

/* Bytes of the work buffer for GGML_OP_FLASH_ATTN_EXT with so many threads. */
size_t alora_packed_attention_work(const struct ggml_tensor * operation, int n_threads);

/* Computes GGML_OP_FLASH_ATTN_EXT; false, and nothing is done, where it is none of the sorts that this file knows. */
bool alora_packed_attention(const struct ggml_compute_params * params, struct ggml_tensor * operation);

#ifdef __cplusplus
}
#endif

#endif
