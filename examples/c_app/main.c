/* Judges a conversation with the bundled model's intrinsics, and lets it write the next reply.
 *
 * usage: judge FOLDER [-d DOCUMENT] TURN...
 *
 * FOLDER has alora-tiny.gguf and its adapters. Turns are the user's and the assistant's by turns, the user's first.
 * After a user's turn a reply is streamed; Ctrl-C ends it. Exit status: 0 done, 1 failed, 2 usage, 130 interrupted. */
#include "conversation.h"
#include "intrinsics.h"

#include <alora.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What a signal handler may reach. */
static volatile sig_atomic_t interrupted = 0;
static alora_context * volatile running = NULL;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
    if (running != NULL) {
        alora_context_cancel(running, NULL);
    }
}

static alora_next show_progress(float fraction, void * user_data) {
    (void)user_data;
    fprintf(stderr, "\rloading %3d %%%s", (int)(fraction * 100.0f), fraction < 1.0f ? "" : "\n");
    return interrupted ? ALORA_STOP : ALORA_GO_ON;
}

static alora_next show_text(const alora_generation_step * step, void * user_data) {
    (void)user_data;
    fwrite(step->text, 1, step->text_size, stdout);
    fflush(stdout);
    return interrupted ? ALORA_STOP : ALORA_GO_ON;
}

/* The reply becomes a part of the conversation. */
static alora_status reply(alora_context * context, const alora_model * model, alora_branch * trunk,
                          alora_error ** error) {
    alora_generation_options options;
    alora_generation * generation = NULL;
    alora_status status = begin_turn(model, trunk, "assistant", error);
    if (status == ALORA_OK) {
        status = alora_generation_options_init(&options, sizeof options, error);
    }
    if (status == ALORA_OK) {
        options.max_tokens = 128;
        status = alora_generation_create(context, &trunk, 1, &options, &generation, error);
    }
    if (status == ALORA_OK) {
        printf("assistant: ");
        status = alora_generation_run(generation, show_text, NULL, error);
        printf("\n");
    }
    alora_generation_free(generation);
    return status == ALORA_OK ? end_turn(model, trunk, error) : status;
}

static alora_status converse(alora_context * context, const alora_model * model, const intrinsics * loaded,
                             const char * document, char ** turns, int n_turns, alora_error ** error) {
    alora_branch * trunk = NULL;
    alora_status status = alora_context_branch(context, &trunk, error);
    if (status == ALORA_OK && document != NULL) {
        status = append_turn(model, trunk, "documents", document, error);
    }
    bool users = false;
    for (int i = 0; i < n_turns && status == ALORA_OK; ++i) {
        users = i % 2 == 0;
        status = append_turn(model, trunk, users ? "user" : "assistant", turns[i], error);
    }
    if (status == ALORA_OK && users) {
        status = ask(context, model, trunk, loaded, AFTER_USER, document != NULL, error);
        if (status == ALORA_OK) {
            status = reply(context, model, trunk, error);
        }
    }
    if (status == ALORA_OK) {
        status = ask(context, model, trunk, loaded, AFTER_REPLY, document != NULL, error);
    }
    alora_branch_free(trunk);
    return status;
}

static alora_status judge(const char * folder, const char * document, char ** turns, int n_turns,
                          alora_error ** error) {
    alora_model_options model_options;
    alora_context_options context_options;
    alora_model * model = NULL;
    alora_context * context = NULL;
    intrinsics loaded = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/alora-tiny.gguf", folder);

    alora_status status = alora_model_options_init(&model_options, sizeof model_options, error);
    if (status == ALORA_OK) {
        model_options.progress = show_progress;
        status = alora_model_load(path, &model_options, &model, error);
    }
    if (status == ALORA_OK) {
        status = load_intrinsics(model, folder, &loaded, error);
    }
    if (status == ALORA_OK) {
        status = alora_context_options_init(&context_options, sizeof context_options, error);
    }
    if (status == ALORA_OK) {
        context_options.n_ctx = 1024;
        status = alora_context_create(model, &context_options, &context, error);
    }
    if (status == ALORA_OK) {
        running = context;
        status = converse(context, model, &loaded, document, turns, n_turns, error);
        running = NULL;
    }
    alora_context_free(context);
    free_intrinsics(&loaded);
    alora_model_free(model);
    return status;
}

int main(int argc, char ** argv) {
    const char * document = NULL;
    int first = 2;
    if (argc > 3 && strcmp(argv[2], "-d") == 0) {
        document = argv[3];
        first = 4;
    }
    if (argc <= first) {
        fprintf(stderr, "usage: %s FOLDER [-d DOCUMENT] TURN...\n", argv[0]);
        return 2;
    }
    signal(SIGINT, on_interrupt);
    alora_error * error = NULL;
    const alora_status status = judge(argv[1], document, argv + first, argc - first, &error);
    if (status == ALORA_OK) {
        return 0;
    }
    fprintf(stderr, "%s: %s\n", argv[0], alora_error_message(error));
    alora_error_free(error);
    return status == ALORA_ERROR_CANCELLED ? 130 : 1;
}
