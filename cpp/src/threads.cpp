#include "alora/processor.hpp"

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace alora {

namespace {

int n_hardware_threads() {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

} // namespace

#if defined(__linux__)

int n_physical_cores() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return n_hardware_threads();
    }
    // Threads of one core name the same list of siblings.
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed)) {
            continue;
        }
        std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
        std::string siblings = std::to_string(cpu);
        std::getline(file, siblings);
        cores.insert(siblings);
    }
    return std::max(1, static_cast<int>(cores.size()));
}

#elif defined(__APPLE__)

int n_physical_cores() {
    int n = 0;
    size_t size = sizeof(n);
    // Performance cores where there are two kinds.
    for (const char * name : {"hw.perflevel0.physicalcpu", "hw.physicalcpu"}) {
        if (sysctlbyname(name, &n, &size, nullptr, 0) == 0 && n > 0) {
            return n;
        }
    }
    return n_hardware_threads();
}

#else

int n_physical_cores() {
    return n_hardware_threads();
}

#endif

} // namespace alora
