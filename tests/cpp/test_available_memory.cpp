// How much memory there is, read from files made for the test: limits of containers cannot be had otherwise.
#include "available_memory.hpp"

#include <doctest/doctest.h>

#if defined(__linux__)

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <unistd.h>

namespace {

constexpr uint64_t mib = 1 << 20;

// A folder that stands for the root of a machine with 8 GiB of memory to be had and no swap.
class Machine {
public:
    Machine() : root_(std::filesystem::temp_directory_path() / ("alora_available_memory_" + std::to_string(getpid()))) {
        std::filesystem::remove_all(root_);
        write("/proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 1024 kB\nMemAvailable: 8388608 kB\nSwapFree: 0 kB\n");
    }
    ~Machine() {
        std::error_code ignored;
        std::filesystem::remove_all(root_, ignored);
    }
    Machine(const Machine &) = delete;
    Machine & operator=(const Machine &) = delete;

    void write(const std::string & path, const std::string & text) const {
        const std::string file = root_.string() + path;
        std::filesystem::create_directories(std::filesystem::path(file).parent_path());
        std::ofstream(file) << text;
    }
    void write_group(const std::string & folder, const std::string & limit, uint64_t used, uint64_t pages) const {
        write(folder + "/memory.max", limit + "\n");
        write(folder + "/memory.current", std::to_string(used) + "\n");
        write(folder + "/memory.stat", "anon 5\nactive_file 0\ninactive_file " + std::to_string(pages) + "\n");
    }
    uint64_t available() const { return alora::available_memory(root_.string()); }

private:
    std::filesystem::path root_;
};

} // namespace

TEST_CASE("available is what the machine has, with its swap") {
    const Machine machine;
    CHECK(machine.available() == 8192 * mib);
    machine.write("/proc/meminfo", "MemAvailable: 8388608 kB\nSwapFree: 1048576 kB\n");
    CHECK(machine.available() == 9216 * mib);
}

TEST_CASE("a control group's limit holds, and that of any group around it") {
    const Machine machine;
    machine.write("/proc/self/cgroup", "0::/user/app\n");
    machine.write_group("/sys/fs/cgroup/user/app", "max", 500 * mib, 0);
    CHECK(machine.available() == 8192 * mib);
    machine.write_group("/sys/fs/cgroup/user/app", std::to_string(1000 * mib), 500 * mib, 0);
    CHECK(machine.available() == 500 * mib);
    machine.write_group("/sys/fs/cgroup/user", std::to_string(700 * mib), 600 * mib, 0);
    CHECK(machine.available() == 100 * mib);
    machine.write_group("/sys/fs/cgroup/user", std::to_string(700 * mib), 800 * mib, 0);
    CHECK(machine.available() == 0);
}

TEST_CASE("pages of files are dropped where a group is short of memory") {
    const Machine machine;
    machine.write("/proc/self/cgroup", "0::/app\n");
    machine.write_group("/sys/fs/cgroup/app", std::to_string(1000 * mib), 900 * mib, 300 * mib);
    CHECK(machine.available() == 400 * mib);
}

TEST_CASE("in a container the group's path may be the host's") {
    const Machine machine;
    machine.write("/proc/self/cgroup", "0::/pods/one/container\n");
    machine.write_group("/sys/fs/cgroup", std::to_string(300 * mib), 100 * mib, 0);
    CHECK(machine.available() == 200 * mib);
}

TEST_CASE("control groups of the first version") {
    const Machine machine;
    machine.write("/proc/self/cgroup", "5:cpu,cpuacct:/other\n4:memory:/app\n0::/\n");
    const std::string folder = "/sys/fs/cgroup/memory/app";
    machine.write(folder + "/memory.limit_in_bytes", "9223372036854771712\n");
    machine.write(folder + "/memory.usage_in_bytes", std::to_string(100 * mib));
    CHECK(machine.available() == 8192 * mib);
    machine.write(folder + "/memory.limit_in_bytes", std::to_string(150 * mib));
    machine.write(folder + "/memory.stat",
                  "total_active_file " + std::to_string(10 * mib) + "\ntotal_inactive_file " + std::to_string(5 * mib));
    CHECK(machine.available() == 65 * mib);
}

TEST_CASE("where nothing is known, nothing is refused") {
    const Machine machine;
    machine.write("/proc/meminfo", "nothing\n");
    machine.write("/proc/self/cgroup", "no colons\n0::\n");
    CHECK(machine.available() == std::numeric_limits<uint64_t>::max());
}

#endif
