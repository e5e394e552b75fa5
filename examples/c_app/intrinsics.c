#include "intrinsics.h"

#include <stdio.h>
#include <string.h>

/* One intrinsic's question: a fork of the trunk with its invocation, and its labels as tokens. */
typedef struct question {
    const intrinsic * of;
    alora_branch * branch;
    alora_label labels[MOST_LABELS];
    alora_token * tokens[MOST_LABELS];
    size_t n_labels;
} question;

alora_status load_intrinsics(const alora_model * model, const char * folder, intrinsics * loaded,
                             alora_error ** error) {
    const intrinsics unloaded = {{
        {"safety", AFTER_USER, false, {"Y", "N", NULL}, NULL},
        {"jailbreak", AFTER_USER, false, {"Y", "N", NULL}, NULL},
        {"answerability", AFTER_USER, true, {"answerable", "unanswerable", NULL}, NULL},
        {"hallucination", AFTER_REPLY, true, {"Y", "N", NULL}, NULL},
        {"certainty", AFTER_REPLY, false, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", NULL}, NULL},
    }};
    alora_status status = ALORA_OK;
    *loaded = unloaded;
    for (int i = 0; i < N_INTRINSICS && status == ALORA_OK; ++i) {
        char path[4096];
        snprintf(path, sizeof path, "%s/alora-tiny.%s.gguf", folder, loaded->all[i].name);
        status = alora_adapter_load(model, path, NULL, &loaded->all[i].adapter, error);
    }
    return status;
}

void free_intrinsics(intrinsics * loaded) {
    for (int i = 0; i < N_INTRINSICS; ++i) {
        alora_adapter_free(loaded->all[i].adapter);
        loaded->all[i].adapter = NULL;
    }
}

static void free_question(question * asked) {
    for (size_t i = 0; i < asked->n_labels; ++i) {
        alora_free(asked->tokens[i]);
    }
    alora_branch_free(asked->branch);
}

static alora_status prepare(const alora_model * model, const alora_branch * trunk, const intrinsic * of,
                            question * asked, alora_error ** error) {
    alora_adapter_info info;
    alora_status status = alora_adapter_get_info(of->adapter, &info, sizeof info, error);
    memset(asked, 0, sizeof *asked);
    asked->of = of;
    if (status == ALORA_OK) {
        status = alora_branch_fork(trunk, ALORA_END, &asked->branch, error);
    }
    /* From here on the adapter governs the fork; what the trunk has read stays the base model's. */
    if (status == ALORA_OK) {
        status = alora_branch_activate(asked->branch, of->adapter, 1.0f, error);
    }
    if (status == ALORA_OK) {
        status = alora_branch_append(asked->branch, info.invocation_tokens, info.n_invocation_tokens, 1, error);
    }
    for (size_t i = 0; of->labels[i] != NULL && status == ALORA_OK; ++i) {
        status = alora_model_tokenize(model, of->labels[i], strlen(of->labels[i]), false, false, &asked->tokens[i],
                                      &asked->labels[i].n_tokens, error);
        asked->labels[i].tokens = asked->tokens[i];
        asked->n_labels = i + 1;
    }
    return status;
}

static void print_verdict(const question * asked, const double * probabilities, double off_label) {
    size_t best = 0;
    for (size_t i = 1; i < asked->n_labels; ++i) {
        best = probabilities[i] > probabilities[best] ? i : best;
    }
    printf("%-14s %-12s", asked->of->name, asked->of->labels[best]);
    for (size_t i = 0; i < asked->n_labels; ++i) {
        printf(" %s %.4f", asked->of->labels[i], probabilities[i]);
    }
    printf("  (none of them %.4f)\n", off_label);
}

alora_status ask(alora_context * context, const alora_model * model, const alora_branch * trunk,
                 const intrinsics * loaded, moment now, bool with_document, alora_error ** error) {
    question questions[N_INTRINSICS];
    alora_label_query queries[N_INTRINSICS];
    double probabilities[N_INTRINSICS * MOST_LABELS];
    double off_label[N_INTRINSICS];
    const alora_label_scores scores = {probabilities, NULL, off_label};
    size_t n = 0;
    alora_status status = ALORA_OK;
    for (int i = 0; i < N_INTRINSICS && status == ALORA_OK; ++i) {
        const intrinsic * of = &loaded->all[i];
        if (of->asked == now && (with_document || !of->needs_document)) {
            status = prepare(model, trunk, of, &questions[n], error);
            queries[n].branch = questions[n].branch;
            queries[n].labels = questions[n].labels;
            queries[n].n_labels = questions[n].n_labels;
            ++n;
        }
    }
    if (status == ALORA_OK) {
        status = alora_score(context, queries, n, &scores, error);
    }
    const double * own = probabilities;
    for (size_t i = 0; i < n; ++i) {
        if (status == ALORA_OK) {
            print_verdict(&questions[i], own, off_label[i]);
            own += questions[i].n_labels;
        }
        free_question(&questions[i]);
    }
    return status;
}
