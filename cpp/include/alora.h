/*
 * alora: run activated LoRA adapters (intrinsics) and their base model inside a program. The C interface, C99 and C++.
 *
 * Words. A *model* is one GGUF file. An *adapter* is LoRA weights for it. A *context* is the KV cache in which
 * *branches* of one model live: token sequences that fork from one another and share what they have in common. A *row*
 * is one token of one branch. An adapter governs a branch's rows from where it was activated on, and none before.
 *
 * Errors. Every call that can fail returns an alora_status, ALORA_OK where it did what was asked. Where it failed and
 * `error` is not NULL, *error becomes an object that says what was found, what was expected and what to do; free it
 * with alora_error_free(). Where it succeeded, *error becomes NULL. What *error was before is overwritten, not freed.
 * After a failure outputs are NULL or 0, and every handle is as usable as before. No C++ exception leaves a call, and
 * nothing is ever printed.
 *
 * Handles. Each is freed with its own alora_..._free(), which takes NULL as well. They may be freed in any order: a
 * context keeps its model alive, a branch its context's memory, a scoring or generation its context and branches. What
 * an `info` structure points to lives as long as the handle that it came from.
 *
 * Memory. Arrays and texts that a call makes are freed with alora_free(). Texts are UTF-8, end with a NUL byte, and may
 * have NUL bytes within where a size is given beside them.
 *
 * Threads. A model and an adapter never change: any number of threads may use them at once. Calls on one context, its
 * branches, scorings and generations are safe from several threads for as long as each handle is used by one at a time;
 * they wait for one another. alora_context_cancel() may be called while another call runs, also from a signal handler.
 * A handle must not be freed while a call on it runs. Callbacks run on the calling thread, unless said otherwise, and
 * must return: no longjmp() out of them, no thread cancellation. A C++ exception out of one stops the call, as told
 * there.
 *
 * Versions. A program that was built with this header runs with every later library of the same ALORA_ABI_VERSION: an
 * `options` structure begins with the size it had for the program, and an `info` structure is filled up to the size
 * that is passed. Later versions only add fields at the end.
 */
#ifndef ALORA_H
#define ALORA_H

#include "alora/export.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Library ---------------------------------------------------------------------------------------------------- */

#define ALORA_ABI_VERSION 1

/* The ABI of the library that is loaded; compare it with ALORA_ABI_VERSION where the library is looked up by hand. */
ALORA_API int alora_abi_version(void);
/* The version of alora_cpp, such as "0.1.0". */
ALORA_API const char * alora_version(void);
/* Frees an array or text that a call made. NULL is nothing to free. */
ALORA_API void alora_free(void * memory);

/* ---- Errors ----------------------------------------------------------------------------------------------------- */

typedef enum alora_status {
    ALORA_OK = 0,
    ALORA_ERROR_UNEXPECTED = 1,           /* none of the others; also a C++ exception out of a callback */
    ALORA_ERROR_OUT_OF_MEMORY = 2,        /* of this process */
    ALORA_ERROR_ARGUMENT = 3,             /* an option or argument outside what it may be */
    ALORA_ERROR_MODEL_LOAD = 4,           /* a model file that cannot be loaded */
    ALORA_ERROR_ADAPTER = 5,              /* an adapter file that cannot be loaded, or used where it was asked to be */
    ALORA_ERROR_ADAPTER_MISMATCH = 6,     /* an adapter made for another base model */
    ALORA_ERROR_INVOCATION_NOT_FOUND = 7, /* the adapter's invocation is not in the prompt */
    ALORA_ERROR_CONTEXT_FULL = 8,         /* no free KV cells, or no free branch */
    ALORA_ERROR_POSITION = 9,             /* a position that the branch does not have */
    ALORA_ERROR_TOKEN = 10,               /* a token that the vocabulary does not have */
    ALORA_ERROR_CLOSED = 11,              /* the branch or context was closed */
    ALORA_ERROR_CANCELLED = 12,           /* alora_context_cancel(), or a callback that said ALORA_STOP */
    ALORA_ERROR_BACKEND = 13              /* the compute backend failed */
} alora_status;

typedef struct alora_error alora_error;

/* ALORA_OK where the error is NULL. */
ALORA_API alora_status alora_error_status(const alora_error * error);
/* Lives as long as the error; an empty text where that is NULL. */
ALORA_API const char * alora_error_message(const alora_error * error);
ALORA_API void alora_error_free(alora_error * error);

/* What callbacks answer. */
typedef enum alora_next { ALORA_GO_ON = 0, ALORA_STOP = 1 } alora_next;

/* ---- Log -------------------------------------------------------------------------------------------------------- */

typedef enum alora_log_level {
    ALORA_LOG_DEBUG = 1,
    ALORA_LOG_INFO = 2,
    ALORA_LOG_WARNING = 3,
    ALORA_LOG_ERROR = 4
} alora_log_level;

/* Called from any thread that computes. An exception out of it is dropped. */
typedef void (*alora_log_callback)(alora_log_level level, const char * text, void * user_data);

/* Hands out what llama.cpp and ggml have to say, in pieces that end with a newline where a line does. One sink a
   process; NULL drops everything, as at the start. A call that is under way may still use the old sink for a moment. */
ALORA_API alora_status alora_set_log_sink(alora_log_callback sink, void * user_data, alora_error ** error);

/* ---- Models ----------------------------------------------------------------------------------------------------- */

typedef struct alora_model alora_model;
typedef int32_t alora_token;

/* No token: what an optional token is where there is none. */
#define ALORA_NO_TOKEN ((alora_token) - 1)

/* Told the fraction loaded, 0 to 1. ALORA_STOP ends the load with ALORA_ERROR_CANCELLED, an exception with
   ALORA_ERROR_UNEXPECTED. */
typedef alora_next (*alora_progress_callback)(float fraction, void * user_data);

typedef struct alora_model_options {
    size_t struct_size;
    alora_progress_callback progress; /* NULL: nobody is told */
    void * user_data;                 /* for `progress` */
    int32_t n_gpu_layers;             /* layers on the GPU, where the build has one; negative: all (-1) */
    bool use_mmap;                    /* weights are mapped from the file, not read (true) */
    bool vocabulary_only;             /* no weights: nothing can be computed, but text becomes tokens (false) */
} alora_model_options;

typedef struct alora_model_info {
    const char * path;
    const char * architecture;
    const char * description;
    const char * chat_template;          /* jinja, as the file has it; NULL where it has none */
    const char * vocabulary_fingerprint; /* 16 hexadecimal digits */
    const char * weights_fingerprint;    /* likewise; NULL where the file is one part of several, or has no norms */
    uint64_t n_parameters;
    uint64_t size; /* bytes of all weights */
    int32_t n_ctx_train;
    int32_t n_embd;
    int32_t n_layer;
    int32_t n_vocab;
    alora_token bos; /* ALORA_NO_TOKEN where the model has none */
    alora_token eos; /* likewise */
    size_t n_metadata;
    size_t n_built_in_adapters; /* none in most models */
} alora_model_info;

typedef struct alora_token_info {
    bool is_control;           /* a control token, such as the one that begins a turn */
    bool is_end_of_generation; /* the model ends its answer with it */
} alora_token_info;

/* An adapter that is a part of the model's own file: it governs the rows from its control token on. */
typedef struct alora_built_in_adapter {
    alora_token control_token;
    alora_token substitute_token; /* whose embedding the control token's row has */
} alora_built_in_adapter;

/* Fills in the defaults, those in brackets above. `struct_size` is sizeof(alora_model_options). */
ALORA_API alora_status alora_model_options_init(alora_model_options * options, size_t struct_size,
                                                alora_error ** error);
/* `options` may be NULL for the defaults. ALORA_ERROR_MODEL_LOAD says what is wrong with the file. */
ALORA_API alora_status alora_model_load(const char * path, const alora_model_options * options, alora_model ** model,
                                        alora_error ** error);
/* The weights stay in memory until the last adapter, context or branch that uses them is freed, too. */
ALORA_API void alora_model_free(alora_model * model);
/* `info_size` is sizeof(alora_model_info). */
ALORA_API alora_status alora_model_get_info(const alora_model * model, alora_model_info * info, size_t info_size,
                                            alora_error ** error);
/* The value of a scalar key of the file, as text; NULL where it has no such key. */
ALORA_API alora_status alora_model_metadata(const alora_model * model, const char * key, const char ** value,
                                            alora_error ** error);
/* Keys in their order, `index` from 0 to n_metadata - 1. */
ALORA_API alora_status alora_model_metadata_at(const alora_model * model, size_t index, const char ** key,
                                               const char ** value, alora_error ** error);
ALORA_API alora_status alora_model_built_in_adapter(const alora_model * model, size_t index,
                                                    alora_built_in_adapter * adapter, size_t adapter_size,
                                                    alora_error ** error);
/* Text to tokens. `parse_special` turns the text of control tokens into those tokens: never for what a user wrote.
   `add_special` adds what the model wants at the start and end of a text. Free the tokens with alora_free(). */
ALORA_API alora_status alora_model_tokenize(const alora_model * model, const char * text, size_t text_size,
                                            bool parse_special, bool add_special, alora_token ** tokens,
                                            size_t * n_tokens, alora_error ** error);
/* Tokens to bytes, which need not be whole UTF-8 characters; control tokens give none unless `special`. Free the bytes
   with alora_free(). `text_size` may be NULL. */
ALORA_API alora_status alora_model_detokenize(const alora_model * model, const alora_token * tokens, size_t n_tokens,
                                              bool special, char ** text, size_t * text_size, alora_error ** error);
ALORA_API alora_status alora_model_token_info(const alora_model * model, alora_token token, alora_token_info * info,
                                              size_t info_size, alora_error ** error);
/* The control token that is written so; ALORA_NO_TOKEN where there is none. */
ALORA_API alora_status alora_model_control_token(const alora_model * model, const char * text, alora_token * token,
                                                 alora_error ** error);

/* What tells base models apart: an adapter was made for one of them. */
typedef struct alora_fingerprints {
    char vocabulary[17]; /* 16 hexadecimal digits */
    char weights[17];    /* likewise; empty where the file is one part of several, or has no norms */
} alora_fingerprints;

/* Reads them without loading the model. */
ALORA_API alora_status alora_read_fingerprints(const char * path, alora_fingerprints * fingerprints,
                                               size_t fingerprints_size, alora_error ** error);
/* Whether a base model's name, perhaps with its organization ("org/name"), can mean a model that is called by one of
   `names`: all words of one are among the words of the other. True where there is nothing to compare. */
ALORA_API alora_status alora_names_match(const char * base, const char * const * names, size_t n_names, bool * match,
                                         alora_error ** error);

/* ---- Adapters --------------------------------------------------------------------------------------------------- */

typedef struct alora_adapter alora_adapter;

typedef struct alora_adapter_options {
    size_t struct_size;
    bool force; /* only what cannot be computed is a mismatch: another architecture, other tensors or shapes (false) */
} alora_adapter_options;

typedef struct alora_adapter_info {
    const char * path;
    const char * name;    /* general.name, else the file's stem */
    const char * io_yaml; /* how it is asked and how its answer is read; NULL where the file has none */
    const alora_token * invocation_tokens; /* none: an ordinary LoRA, activated wherever the caller says */
    size_t n_invocation_tokens;
    const char * const * targets; /* base weights that it adds to, without block numbers */
    size_t n_targets;
    size_t n_metadata;
    uint64_t size;             /* bytes of its weights */
    int32_t activation_offset; /* tokens of the invocation before the first adapted one: 0, or 1 for legacy adapters */
    int32_t rank;              /* the largest of its tensors' ranks */
    float alpha;
    alora_token control_token; /* of a built-in adapter: the first row that it governs; else ALORA_NO_TOKEN */
} alora_adapter_info;

ALORA_API alora_status alora_adapter_options_init(alora_adapter_options * options, size_t struct_size,
                                                  alora_error ** error);
/* Checks the whole file against the model before any of it is used. ALORA_ERROR_ADAPTER: broken, or of a kind that
   cannot be run; ALORA_ERROR_ADAPTER_MISMATCH: made for another base. `options` may be NULL for the defaults. */
ALORA_API alora_status alora_adapter_load(const alora_model * model, const char * path,
                                          const alora_adapter_options * options, alora_adapter ** adapter,
                                          alora_error ** error);
/* The same checks without reading the weights' numbers, so that it takes no time. */
ALORA_API alora_status alora_adapter_check(const alora_model * model, const char * path,
                                           const alora_adapter_options * options, alora_error ** error);
/* One of the model's built-in adapters. The invocation must begin with its control token; `io_yaml` may be NULL. */
ALORA_API alora_status alora_adapter_built_in(const alora_model * model, int32_t index, const char * name,
                                              const char * io_yaml, const alora_token * invocation_tokens,
                                              size_t n_invocation_tokens, alora_adapter ** adapter,
                                              alora_error ** error);
ALORA_API void alora_adapter_free(alora_adapter * adapter);
/* `info_size` is sizeof(alora_adapter_info). */
ALORA_API alora_status alora_adapter_get_info(const alora_adapter * adapter, alora_adapter_info * info,
                                              size_t info_size, alora_error ** error);
ALORA_API alora_status alora_adapter_metadata(const alora_adapter * adapter, const char * key, const char ** value,
                                              alora_error ** error);
ALORA_API alora_status alora_adapter_metadata_at(const alora_adapter * adapter, size_t index, const char ** key,
                                                 const char ** value, alora_error ** error);
/* Where the last occurrence of the invocation begins; ALORA_ERROR_INVOCATION_NOT_FOUND where there is none. */
ALORA_API alora_status alora_adapter_find_invocation(const alora_adapter * adapter, const alora_token * tokens,
                                                     size_t n_tokens, int32_t * position, alora_error ** error);

/* ---- Contexts --------------------------------------------------------------------------------------------------- */

typedef struct alora_context alora_context;
typedef struct alora_branch alora_branch;

typedef struct alora_context_options {
    size_t struct_size;
    const char * kv_type;         /* f32, f16, bf16 or q8_0 ("f16") */
    const char * flash_attention; /* on, off or auto ("auto") */
    int32_t n_ctx;                /* KV cells that all branches share; 0: what the model was trained for (0) */
    int32_t n_branches;           /* open at a time, at most 255; 0: 64, with recurrent layers 16 (0) */
    int32_t n_ubatch;             /* rows computed at a time; 0: 128, with layers on a GPU 512 (0) */
    int32_t n_threads;            /* 0: one for each physical core (0) */
} alora_context_options;

typedef struct alora_context_info {
    uint64_t rows_decoded; /* every row computed since the context began */
    uint64_t batches;      /* passes through the model that took */
    uint64_t graphs_reused;
    uint64_t compute_bytes; /* compute buffers now; they grow only when a batch needs more than any before */
    int32_t n_ctx;
    int32_t n_cells_used; /* cells held by rows, computed or queued */
    int32_t n_branches;   /* open now */
    bool closed;
} alora_context_info;

/* Asked now and then while computing, on the computing thread. ALORA_STOP, or an exception, ends the work with
   ALORA_ERROR_CANCELLED. It must not use the context or its branches, except for alora_context_cancel(). */
typedef alora_next (*alora_interrupt_callback)(void * user_data);

ALORA_API alora_status alora_context_options_init(alora_context_options * options, size_t struct_size,
                                                  alora_error ** error);
/* `options` may be NULL for the defaults. ALORA_ERROR_BACKEND where buffers cannot be had. */
ALORA_API alora_status alora_context_create(const alora_model * model, const alora_context_options * options,
                                            alora_context ** context, alora_error ** error);
/* The KV cache goes with the context's last branch, scoring and generation; alora_context_close() does not wait. */
ALORA_API void alora_context_free(alora_context * context);
/* `info_size` is sizeof(alora_context_info). */
ALORA_API alora_status alora_context_get_info(const alora_context * context, alora_context_info * info,
                                              size_t info_size, alora_error ** error);
/* An empty branch. ALORA_ERROR_CONTEXT_FULL when n_branches are open. */
ALORA_API alora_status alora_context_branch(alora_context * context, alora_branch ** branch, alora_error ** error);
/* A branch as alora_branch_save() wrote it, from a context of the same model and KV type. */
ALORA_API alora_status alora_context_restore(alora_context * context, const void * bytes, size_t size,
                                             alora_branch ** branch, alora_error ** error);
/* Computes every queued row of every branch, in as few passes as n_ubatch allows; rows of different adapters and of
   none share passes. After ALORA_ERROR_CANCELLED or ALORA_ERROR_BACKEND rows not computed by then stay queued. */
ALORA_API alora_status alora_context_decode(alora_context * context, alora_error ** error);
/* Makes the running decode, or else the next one, end with ALORA_ERROR_CANCELLED. Safe from any thread and from a
   signal handler. */
ALORA_API alora_status alora_context_cancel(alora_context * context, alora_error ** error);
/* Takes back a cancel that nothing has run into yet. */
ALORA_API alora_status alora_context_resume(alora_context * context, alora_error ** error);
/* NULL: never asked. */
ALORA_API alora_status alora_context_set_interrupt(alora_context * context, alora_interrupt_callback interrupt,
                                                   void * user_data, alora_error ** error);
/* Gives the KV cache, the buffers and the threads back now; branches of this context answer ALORA_ERROR_CLOSED from
   then on. */
ALORA_API alora_status alora_context_close(alora_context * context, alora_error ** error);

/* ---- Branches --------------------------------------------------------------------------------------------------- */

/* A position at the end of a branch. */
#define ALORA_END (-1)

typedef struct alora_branch_info {
    int32_t length;              /* rows, queued ones too */
    int32_t n_queued;            /* rows that wait for alora_context_decode() */
    int32_t activation_position; /* the first position that its adapter governs; ALORA_END where none does */
    bool closed;                 /* then the others are 0 and ALORA_END */
} alora_branch_info;

/* Closes it: its cells are given back, except those that forks of it still share. */
ALORA_API void alora_branch_free(alora_branch * branch);
/* `info_size` is sizeof(alora_branch_info). */
ALORA_API alora_status alora_branch_get_info(const alora_branch * branch, alora_branch_info * info, size_t info_size,
                                             alora_error ** error);
/* Queues rows. The logits of the last `n_logits` rows are kept: 1 to score labels or generate after them, 0 where more
   is appended anyway. After ALORA_ERROR_TOKEN or ALORA_ERROR_CONTEXT_FULL nothing is queued. */
ALORA_API alora_status alora_branch_append(alora_branch * branch, const alora_token * tokens, size_t n_tokens,
                                           int32_t n_logits, alora_error ** error);
/* A new branch that shares this one's rows before position `at`, or all of them with ALORA_END. Takes constant time and
   no KV memory. It is governed by this one's adapter if it shares rows that the adapter governs. */
ALORA_API alora_status alora_branch_fork(const alora_branch * branch, int32_t at, alora_branch ** fork,
                                         alora_error ** error);
/* From here on the adapter governs this branch's rows, with its weights multiplied by `scale`: 1 is as trained. */
ALORA_API alora_status alora_branch_activate(alora_branch * branch, const alora_adapter * adapter, float scale,
                                             alora_error ** error);
/* The adapter that governs rows appended now, as a handle of its own; NULL where none does. */
ALORA_API alora_status alora_branch_adapter(const alora_branch * branch, alora_adapter ** adapter,
                                            alora_error ** error);
/* Logits of the last `rows` rows into `logits`, [rows][n_vocab]; `n_logits` is how many floats it has room for, at
   least rows * n_vocab. What the last decode kept is handed out; anything else is computed again. */
ALORA_API alora_status alora_branch_logits(const alora_branch * branch, int32_t rows, float * logits, size_t n_logits,
                                           alora_error ** error);
/* All tokens, shared ones too. Free them with alora_free(). */
ALORA_API alora_status alora_branch_tokens(const alora_branch * branch, alora_token ** tokens, size_t * n_tokens,
                                           alora_error ** error);
/* Takes the rows of [begin, end) out; later ones move up, and still hold what they once read of those. */
ALORA_API alora_status alora_branch_drop(alora_branch * branch, int32_t begin, int32_t end, alora_error ** error);
/* Tokens and KV of all rows, shared ones too, for alora_context_restore(). Free the bytes with alora_free(). */
ALORA_API alora_status alora_branch_save(const alora_branch * branch, void ** bytes, size_t * size,
                                         alora_error ** error);
/* The bytes of the KV cells that this branch holds itself, without what it shares. Free them with alora_free(). */
ALORA_API alora_status alora_branch_kv_bytes(const alora_branch * branch, void ** bytes, size_t * size,
                                             alora_error ** error);
/* Gives its cells back now; the handle is still to be freed. */
ALORA_API alora_status alora_branch_close(alora_branch * branch, alora_error ** error);

/* ---- Scoring ---------------------------------------------------------------------------------------------------- */

/* Exact probabilities of a closed set of labels at the end of a branch. Each label is a token sequence; a label that
   another one continues counts only where the answer does not go on to the longer one, so they exclude one another. */
typedef struct alora_scoring alora_scoring;

typedef struct alora_label {
    const alora_token * tokens;
    size_t n_tokens;
} alora_label;

typedef struct alora_label_query {
    const alora_branch * branch; /* may have queued rows */
    const alora_label * labels;
    size_t n_labels;
} alora_label_query;

/* What comes out of scoring. The first two have room for the labels of all queries, one query's after another's; the
   third for one number a query. Each may be NULL. */
typedef struct alora_label_scores {
    double * probabilities;     /* of each label, renormalised over the labels of its query */
    double * log_probabilities; /* natural, of each label's whole token sequence */
    double * off_label;         /* probability that the answer is none of the labels */
} alora_label_scores;

/* Scores all queries at once, in one pass with whatever else is queued. */
ALORA_API alora_status alora_score(alora_context * context, const alora_label_query * queries, size_t n_queries,
                                   const alora_label_scores * scores, alora_error ** error);
/* The same in two steps: the rows that scoring needs are queued, on forks that are gone when it is freed, and go
   through whatever decodes next, together with the rows of others. */
ALORA_API alora_status alora_scoring_create(alora_context * context, const alora_label_query * queries,
                                            size_t n_queries, alora_scoring ** scoring, alora_error ** error);
/* ALORA_ERROR_POSITION where rows are queued still, or a branch went on or was closed. */
ALORA_API alora_status alora_scoring_read(const alora_scoring * scoring, const alora_label_scores * scores,
                                          alora_error ** error);
ALORA_API void alora_scoring_free(alora_scoring * scoring);

/* ---- Generation ------------------------------------------------------------------------------------------------- */

/* Plain generation on one or several branches at once: each step is one pass. */
typedef struct alora_generation alora_generation;

typedef struct alora_generation_options {
    size_t struct_size;
    const char * const * stop; /* the text ends before the first of these (none) */
    size_t n_stop;
    const alora_token * stop_tokens; /* beside the model's own ends of generation (none) */
    size_t n_stop_tokens;
    int32_t max_tokens; /* for each branch (256) */
    float temperature;  /* 0: greedy (0) */
    int32_t top_k;      /* 0: off (0) */
    float top_p;        /* 1: off (1) */
    float min_p;        /* 0: off (0) */
    uint32_t seed;      /* of the first branch; each further one has the next (0) */
} alora_generation_options;

typedef enum alora_finish { ALORA_FINISH_NONE = 0, ALORA_FINISH_STOP = 1, ALORA_FINISH_LENGTH = 2 } alora_finish;

typedef struct alora_generation_step {
    const char * text; /* whole UTF-8 characters that are now certain; may be empty, or more than this token's */
    size_t text_size;  /* bytes */
    int32_t index;     /* which of the branches */
    alora_token token;
    alora_finish finish;
} alora_generation_step;

/* Told each token as it is made; what `step` points to lives until it returns. No lock is held: it may use the context
   and its branches, but not free the generation. */
typedef alora_next (*alora_token_callback)(const alora_generation_step * step, void * user_data);

ALORA_API alora_status alora_generation_options_init(alora_generation_options * options, size_t struct_size,
                                                     alora_error ** error);
/* Every branch needs at least one row. `options` may be NULL for the defaults. */
ALORA_API alora_status alora_generation_create(alora_context * context, alora_branch * const * branches,
                                               size_t n_branches, const alora_generation_options * options,
                                               alora_generation ** generation, alora_error ** error);
/* Decodes what is queued and samples one token for each branch that goes on; `n_steps` is how many, 0 when all have
   finished. Tokens are appended to their branches, except ends of generation and stop tokens. All steps of the pass are
   told; then ALORA_STOP ends the call with ALORA_ERROR_CANCELLED. The generation can go on later. `callback` and
   `n_steps` may be NULL. */
ALORA_API alora_status alora_generation_next(alora_generation * generation, alora_token_callback callback,
                                             void * user_data, size_t * n_steps, alora_error ** error);
/* Goes on until all branches have finished. */
ALORA_API alora_status alora_generation_run(alora_generation * generation, alora_token_callback callback,
                                            void * user_data, alora_error ** error);
/* The next token of this branch will be one of these: bit i % 32 of word i / 32 stands for token i. */
ALORA_API alora_status alora_generation_restrict_next(alora_generation * generation, int32_t index,
                                                      const uint32_t * allowed, size_t n_words, alora_error ** error);
ALORA_API void alora_generation_free(alora_generation * generation);

#ifdef __cplusplus
}
#endif

#endif
