#include "memory.hpp"

#include "alora.h"

int alora_abi_version(void) { // NOLINT(modernize-redundant-void-arg): as in the header
    return ALORA_ABI_VERSION;
}

const char * alora_version(void) { // NOLINT(modernize-redundant-void-arg)
    return ALORA_VERSION;
}

void alora_free(void * memory) {
    alora::c::Freed()(memory);
}
