// What can compute: the processor, and the GPUs that this build has a backend for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace alora {

struct Device {
    std::string name;        // of the backend's, such as CUDA0
    std::string description; // what the hardware calls itself
    std::string backend;     // CPU, CUDA, MTL, ...
    bool gpu = false;
    // Bytes that can still be had; of main memory, what limits on this process or its container leave, with swap. Where
    // nobody can tell, as much as there is.
    uint64_t memory_free = 0;
    uint64_t memory_total = 0; // of the hardware
};

// Starts the backends if that was not done. Throws BackendError, see chosen_cpu_variant(). Any thread may call it.
std::vector<Device> devices();

} // namespace alora
