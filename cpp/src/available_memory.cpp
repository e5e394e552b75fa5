#include "available_memory.hpp"

#include <algorithm>
#include <limits>

#if defined(__linux__)
#include <fstream>
#include <optional>
#include <sys/resource.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <mach/mach.h>
#include <sys/sysctl.h>
#elif defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#endif

namespace alora {

#if defined(__linux__)

namespace {

constexpr uint64_t unlimited = std::numeric_limits<uint64_t>::max();

// The number after a name, in a file of lines "name number"; with an empty name, the file's first number.
std::optional<uint64_t> number_in(const std::string & path, const std::string & name) {
    std::ifstream file(path);
    std::string word;
    while (name.empty() || file >> word) {
        uint64_t number = 0;
        if (name.empty() || word == name) {
            return file >> number ? std::optional(number) : std::nullopt;
        }
    }
    return {};
}

uint64_t difference(uint64_t from, uint64_t less) {
    return from - std::min(from, less);
}

// Version 2 of control groups and version 1 tell the same under other names.
struct GroupFiles {
    const char * limit;
    const char * used;
    const char * active;   // of memory.stat: pages of files, which are dropped where memory is short
    const char * inactive; // the same, not read lately
};
constexpr GroupFiles version_2 = {"/memory.max", "/memory.current", "active_file", "inactive_file"};
constexpr GroupFiles version_1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_active_file",
                                  "total_inactive_file"};

// What a control group and those around it leave. In a container the group's path may be the host's, and nothing be
// there; its limits are then in the topmost folder.
uint64_t left_by_groups(const std::string & mount, std::string group, const GroupFiles & files) {
    uint64_t left = unlimited;
    while (true) {
        const std::string folder = mount + group;
        const auto limit = number_in(folder + files.limit, "");
        const auto used = number_in(folder + files.used, "");
        if (limit && used) {
            const std::string stat = folder + "/memory.stat";
            const uint64_t pages =
                number_in(stat, files.active).value_or(0) + number_in(stat, files.inactive).value_or(0);
            left = std::min(left, difference(*limit, difference(*used, pages)));
        }
        if (group.empty()) {
            return left;
        }
        group.erase(group.rfind('/'));
    }
}

uint64_t left_by_control_groups(const std::string & root) {
    uint64_t left = unlimited;
    std::ifstream file(root + "/proc/self/cgroup");
    // Lines are "number:controllers:path"; version 2 has the number 0 and no controllers.
    for (std::string line; std::getline(file, line);) {
        const size_t first = line.find(':');
        const size_t second = line.find(':', first + 1);
        if (second == std::string::npos || line[second + 1] != '/') {
            continue;
        }
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const std::string path = line.substr(second + 1);
        const std::string group = path == "/" ? "" : path;
        if (controllers == ",,") {
            left = std::min(left, left_by_groups(root + "/sys/fs/cgroup", group, version_2));
        } else if (controllers.find(",memory,") != std::string::npos) {
            left = std::min(left, left_by_groups(root + "/sys/fs/cgroup/memory", group, version_1));
        }
    }
    return left;
}

// `ulimit -v`.
uint64_t left_of_address_space(const std::string & root) {
    rlimit limit{};
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return unlimited;
    }
    const uint64_t pages = number_in(root + "/proc/self/statm", "").value_or(0);
    return difference(limit.rlim_cur, pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
}

} // namespace

uint64_t available_memory(const std::string & root) {
    constexpr uint64_t kib = 1024;
    const std::string file = root + "/proc/meminfo";
    const auto available = number_in(file, "MemAvailable:");
    const uint64_t swap = number_in(file, "SwapFree:").value_or(0) * kib;
    const uint64_t machine = available ? *available * kib + swap : unlimited;
    // A group's limit is on memory alone: what it may swap out comes on top.
    const uint64_t groups = left_by_control_groups(root);
    return std::min({machine, groups > unlimited - swap ? unlimited : groups + swap, left_of_address_space(root)});
}

#elif defined(__APPLE__)

// Everything but wired pages is compressed or swapped out when others need room.
uint64_t available_memory(const std::string & /*root*/) {
    uint64_t installed = 0;
    size_t size = sizeof(installed);
    vm_statistics64_data_t pages{};
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    vm_size_t page = 0;
    const mach_port_t host = mach_host_self();
    const bool known =
        sysctlbyname("hw.memsize", &installed, &size, nullptr, 0) == 0 && host_page_size(host, &page) == KERN_SUCCESS &&
        host_statistics64(host, HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &count) == KERN_SUCCESS;
    mach_port_deallocate(mach_task_self(), host);
    const uint64_t wired = uint64_t{pages.wire_count} * page;
    return known ? installed - std::min(installed, wired) : std::numeric_limits<uint64_t>::max();
}

#elif defined(_WIN32)

// Windows promises memory or refuses it: what it can still promise, in memory and page file.
uint64_t available_memory(const std::string & /*root*/) {
    MEMORYSTATUSEX status{};
    status.dwLength = sizeof(status);
    return GlobalMemoryStatusEx(&status) != 0 ? status.ullAvailPageFile : std::numeric_limits<uint64_t>::max();
}

#else

uint64_t available_memory(const std::string & /*root*/) {
    return std::numeric_limits<uint64_t>::max();
}

#endif

} // namespace alora
