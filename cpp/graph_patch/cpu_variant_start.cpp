// The one function that a CPU variant's library lets out.
#include "cpu_variant.h"

#include "ggml-cpu.h"
#include "ggml.h"

#include <cstring>

#if defined(_WIN32)
#define ALORA_EXPORT __declspec(dllexport)
#else
#define ALORA_EXPORT __attribute__((visibility("default")))
#endif

extern "C" ALORA_EXPORT ggml_backend_reg_t alora_cpu_start(const char * build, ggml_log_callback log, void * log_data) {
    if (std::strcmp(build, ALORA_LLAMA_BUILD) != 0) {
        return nullptr;
    }
    ggml_log_set(log, log_data);
    return ggml_backend_cpu_reg();
}
