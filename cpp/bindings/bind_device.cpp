#include "bindings.hpp"

namespace alora::python {

void bind_device(py::module_ & module) {
    py::class_<Device>(module, "Device")
        .def_readonly("name", &Device::name)
        .def_readonly("description", &Device::description)
        .def_readonly("backend", &Device::backend)
        .def_readonly("gpu", &Device::gpu)
        .def_readonly("memory_free", &Device::memory_free)
        .def_readonly("memory_total", &Device::memory_total);
    module.def("devices", &devices, WithoutGil());
}

} // namespace alora::python
