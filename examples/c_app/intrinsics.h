/* The bundled model's intrinsics that choose between labels, asked several at a time. */
#ifndef INTRINSICS_H
#define INTRINSICS_H

#include <alora.h>

#include <stdbool.h>

enum { MOST_LABELS = 10 };

/* When an intrinsic has something to say. */
typedef enum moment { AFTER_USER, AFTER_REPLY } moment;

typedef struct intrinsic {
    const char * name;
    moment asked;
    bool needs_document;
    const char * labels[MOST_LABELS + 1]; /* up to a NULL; an adapter's io_yaml names them */
    alora_adapter * adapter;
} intrinsic;

enum { N_INTRINSICS = 5 };

typedef struct intrinsics {
    intrinsic all[N_INTRINSICS];
} intrinsics;

/* Loads FOLDER/alora-tiny.NAME.gguf for each. Free what there is with free_intrinsics(), after a failure, too. */
alora_status load_intrinsics(const alora_model * model, const char * folder, intrinsics * loaded, alora_error ** error);
void free_intrinsics(intrinsics * loaded);

/* Asks all that fit the moment about what stands on the trunk, in one pass, and prints what they say. The trunk is as
   it was afterwards. */
alora_status ask(alora_context * context, const alora_model * model, const alora_branch * trunk,
                 const intrinsics * loaded, moment now, bool with_document, alora_error ** error);

#endif
