/* A conversation as tokens on one branch, in the format of the bundled model. */
#ifndef CONVERSATION_H
#define CONVERSATION_H

#include <alora.h>

/* Appends a turn: <|start_of_role|>ROLE<|end_of_role|>TEXT<|end_of_text|> and a newline. Whatever the text says, none
   of it becomes a control token. */
alora_status append_turn(const alora_model * model, alora_branch * branch, const char * role, const char * text,
                         alora_error ** error);

/* The first half of a turn, for the model to write the rest, and what ends it then. */
alora_status begin_turn(const alora_model * model, alora_branch * branch, const char * role, alora_error ** error);
alora_status end_turn(const alora_model * model, alora_branch * branch, alora_error ** error);

#endif
