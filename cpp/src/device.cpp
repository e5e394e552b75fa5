#include "alora/device.hpp"

#include "log.hpp"
#include "text.hpp"

#include "ggml-backend.h"

namespace alora {

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
                         type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU, free, total});
    }
    return found;
}

} // namespace alora
