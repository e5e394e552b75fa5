#include "gil.hpp"

#include <atomic>
#include <chrono>
#include <thread>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace alora::python {

namespace py = pybind11;

namespace {

int process_id() noexcept {
#if defined(_WIN32)
    return 0; // there is no fork
#else
    return getpid();
#endif
}

// Atomics need no destruction: threads may look at them until the very end. And no lock stays taken in a forked child.
std::atomic<bool> ending{false};
std::atomic<std::thread::id> ended_by;
std::atomic<int> n_working{0};
std::atomic<int> counted_in{process_id()}; // the process that n_working is about

void count(int change) noexcept {
    if (counted_in.exchange(process_id()) != process_id()) {
        n_working = 0; // a fork has none of its parent's threads
    }
    n_working += change;
}

void park_if_left_behind() noexcept {
    while (is_left_behind()) {
        std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

void end() {
    constexpr auto patience = std::chrono::seconds(10);
    ended_by = std::this_thread::get_id();
    ending = true;
    count(0);
    const py::gil_scoped_release release;
    const auto begun = std::chrono::steady_clock::now();
    while (n_working > 0 && std::chrono::steady_clock::now() - begun < patience) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

} // namespace

WithoutGilScope::WithoutGilScope() {
    count(1);
    if (is_left_behind()) {
        count(-1);
        park_if_left_behind();
    }
}

WithoutGilScope::~WithoutGilScope() {
    count(-1);
    park_if_left_behind();
}

bool is_left_behind() noexcept {
    return ending && ended_by.load() != std::this_thread::get_id();
}

void watch_for_the_end() {
    py::module_::import("atexit").attr("register")(py::cpp_function(end));
}

} // namespace alora::python
