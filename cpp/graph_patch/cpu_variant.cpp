#include "cpu_variant.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"

#include <filesystem>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace {

ggml_backend_reg_t cpu_backend = nullptr;

// Nothing is ever unloaded: threads of a context that nobody closed may still be in there when the process ends.
#if defined(_WIN32)

alora_cpu_start_function find_start(const std::string & path, std::string & error) {
    const std::filesystem::path file = std::filesystem::u8path(path);
    HMODULE library =
        LoadLibraryExW(file.c_str(), nullptr, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
    FARPROC found = library == nullptr ? nullptr : GetProcAddress(library, "alora_cpu_start");
    if (found == nullptr) {
        error = "Windows error " + std::to_string(GetLastError());
    }
    return reinterpret_cast<alora_cpu_start_function>(reinterpret_cast<void *>(found));
}

#else

alora_cpu_start_function find_start(const std::string & path, std::string & error) {
    void * library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void * found = library == nullptr ? nullptr : dlsym(library, "alora_cpu_start");
    if (found == nullptr) {
        const char * said = dlerror();
        error = said == nullptr ? "alora_cpu_start is not in it" : said;
    }
    return reinterpret_cast<alora_cpu_start_function>(found);
}

#endif

// Buffers on the CPU are told by the identity of their type, and each copy of ggml-base has a type of its own: the
// device hands out the core's.
ggml_backend_buffer_type_t core_buffer_type(ggml_backend_dev_t /*device*/) {
    return ggml_backend_cpu_buffer_type();
}

ggml_backend_buffer_t core_buffer_from_host(ggml_backend_dev_t /*device*/, void * memory, size_t size,
                                            size_t /*largest_tensor*/) {
    return ggml_backend_cpu_buffer_from_ptr(memory, size);
}

} // namespace

// What ggml's registry calls; without variants it is ggml-cpu's own.
ggml_backend_reg_t ggml_backend_cpu_reg(void) {
    return cpu_backend;
}

namespace alora::graph {

std::string load_cpu_variant(const std::string & path) {
    std::string error;
    const alora_cpu_start_function start = find_start(path, error);
    if (start == nullptr) {
        return error;
    }
    ggml_log_callback log = nullptr;
    void * log_data = nullptr;
    ggml_log_get(&log, &log_data);
    ggml_backend_reg_t found = start(ALORA_LLAMA_BUILD, log, log_data);
    if (found == nullptr) {
        return "it is of another build of alora_cpp";
    }
    for (size_t i = 0; i < ggml_backend_reg_dev_count(found); ++i) {
        ggml_backend_dev_t device = ggml_backend_reg_dev_get(found, i);
        device->iface.get_buffer_type = core_buffer_type;
        device->iface.buffer_from_host_ptr = core_buffer_from_host;
    }
    cpu_backend = found;
    return {};
}

} // namespace alora::graph
