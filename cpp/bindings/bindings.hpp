// What the binding files share. They hold no logic: types across, the GIL given back, errors turned into Python's.
#pragma once

#include "alora/alora.hpp"
#include "gil.hpp"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <utility>

namespace alora::python {

namespace py = pybind11;

// Every call that may wait for the context's lock gives the GIL back, or two threads could wait for each other.
using WithoutGil = py::call_guard<WithoutGilScope>;

// A pointer whose last reference goes without the GIL: freeing may wait for a computation on another thread.
template <typename T>
std::shared_ptr<T> freed_without_gil(std::shared_ptr<T> pointer) {
    T * raw = pointer.get();
    return std::shared_ptr<T>(raw, [owner = std::move(pointer)](T * /*raw*/) mutable {
        if (Py_IsInitialized() != 0 && PyGILState_Check() == 1) {
            const WithoutGilScope released;
            owner.reset();
        } else {
            owner.reset();
        }
    });
}

// Runs `work` without the GIL; a signal that ended it is raised in place of Cancelled.
template <typename Work>
auto interruptible(const Work & work) {
    try {
        const WithoutGilScope released;
        return work();
    } catch (const Cancelled &) {
        if (PyErr_Occurred() != nullptr) {
            throw py::error_already_set();
        }
        throw;
    }
}

void bind_error(py::module_ & module);
void bind_log(py::module_ & module);
void bind_identity(py::module_ & module);
void bind_processor(py::module_ & module);
void bind_device(py::module_ & module);
void bind_model(py::module_ & module);
void bind_adapter(py::module_ & module);
void bind_context(py::module_ & module);
void bind_branch(py::module_ & module);
void bind_scoring(py::module_ & module);
void bind_generation(py::module_ & module);

} // namespace alora::python
