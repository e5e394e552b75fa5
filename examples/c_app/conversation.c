#include "conversation.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* `ours` says who wrote the text: only in our own may control tokens be spelled out. */
static alora_status append_text(const alora_model * model, alora_branch * branch, const char * text, bool ours,
                                alora_error ** error) {
    alora_token * tokens = NULL;
    size_t n_tokens = 0;
    alora_status status = alora_model_tokenize(model, text, strlen(text), ours, false, &tokens, &n_tokens, error);
    if (status == ALORA_OK) {
        status = alora_branch_append(branch, tokens, n_tokens, 1, error);
    }
    alora_free(tokens);
    return status;
}

alora_status begin_turn(const alora_model * model, alora_branch * branch, const char * role, alora_error ** error) {
    char head[64];
    snprintf(head, sizeof head, "<|start_of_role|>%s<|end_of_role|>", role);
    return append_text(model, branch, head, true, error);
}

alora_status end_turn(const alora_model * model, alora_branch * branch, alora_error ** error) {
    return append_text(model, branch, "<|end_of_text|>\n", true, error);
}

alora_status append_turn(const alora_model * model, alora_branch * branch, const char * role, const char * text,
                         alora_error ** error) {
    alora_status status = begin_turn(model, branch, role, error);
    if (status == ALORA_OK) {
        status = append_text(model, branch, text, false, error);
    }
    if (status == ALORA_OK) {
        status = end_turn(model, branch, error);
    }
    return status;
}
