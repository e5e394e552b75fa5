#include <alora.h>

/* Nothing else is to be included before or after it. */
int is_the_abi_of_the_header(void) {
    return alora_abi_version() == ALORA_ABI_VERSION;
}
