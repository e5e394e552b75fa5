#include "alora/device.hpp"

#include "available_memory.hpp"
#include "log.hpp"
#include "text.hpp"

#include "ggml-backend.h"

#include <limits>

namespace alora {

namespace {

// Of main memory ggml says that all of it is free.
uint64_t free_main_memory(uint64_t total) {
    const uint64_t available = available_memory();
    return available == std::numeric_limits<uint64_t>::max() ? total : available;
}

} // namespace

std::vector<Device> devices() {
    start_backend();
    std::vector<Device> found;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        size_t free = 0;
        size_t total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        const auto type = ggml_backend_dev_type(device);
        found.push_back({as_utf8(ggml_backend_dev_name(device)), as_utf8(ggml_backend_dev_description(device)),
                         ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)),
                         type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU,
                         type == GGML_BACKEND_DEVICE_TYPE_CPU ? free_main_memory(total) : free, total});
    }
    return found;
}

} // namespace alora
