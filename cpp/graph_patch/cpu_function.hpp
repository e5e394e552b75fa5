// Functions of ggml's CPU backend: it may be in a variant's library, so its registry is asked for them.
#pragma once

#include "ggml-backend.h"
#include "ggml-cpu.h"

namespace alora {

// The one of that name, as the registry spells it. The backend must have been started, see start_backend().
template <typename Function>
Function * cpu_function(const char * name) {
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    return reinterpret_cast<Function *>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

} // namespace alora
