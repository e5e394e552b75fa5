#include "gil.hpp"

#include <atomic>
#include <chrono>
#include <thread>

namespace alora::python {

namespace py = pybind11;

namespace {

// Atomics need no destruction: threads may look at them until the very end. And no lock stays taken in a forked child.
std::atomic<bool> ending{false};
std::atomic<std::thread::id> ended_by;
std::atomic<int> n_working{0};

void park_if_left_behind() noexcept {
    while (is_left_behind()) {
        std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

// A forked process has none of its parent's threads.
void forget_threads() {
    n_working = 0;
}

void end() {
    constexpr auto patience = std::chrono::seconds(10);
    ended_by = std::this_thread::get_id();
    ending = true;
    const py::gil_scoped_release release;
    const auto begun = std::chrono::steady_clock::now();
    while (n_working > 0 && std::chrono::steady_clock::now() - begun < patience) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

} // namespace

WithoutGilScope::WithoutGilScope() {
    ++n_working;
    if (is_left_behind()) {
        --n_working;
        park_if_left_behind();
    }
}

WithoutGilScope::~WithoutGilScope() {
    --n_working;
    park_if_left_behind();
}

bool is_left_behind() noexcept {
    return ending && ended_by.load() != std::this_thread::get_id();
}

void watch_the_interpreter() {
    py::module_::import("atexit").attr("register")(py::cpp_function(end));
    const py::module_ os = py::module_::import("os");
    if (py::hasattr(os, "register_at_fork")) {
        os.attr("register_at_fork")(py::arg("after_in_child") = py::cpp_function(forget_threads));
    }
}

} // namespace alora::python
