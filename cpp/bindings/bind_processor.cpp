#include "bindings.hpp"

namespace alora::python {

void bind_processor(py::module_ & module) {
    py::class_<CpuVariant>(module, "CpuVariant")
        .def_readonly("name", &CpuVariant::name)
        .def_readonly("needs", &CpuVariant::needs)
        .def_readonly("path", &CpuVariant::path);
    py::class_<ChosenCpuVariant>(module, "ChosenCpuVariant")
        .def_readonly("name", &ChosenCpuVariant::name)
        .def_readonly("passed_over", &ChosenCpuVariant::passed_over);
    module.def("cpu_features", &cpu_features);
    module.def("cpu_variants", &cpu_variants);
    module.def("chosen_cpu_variant", &chosen_cpu_variant, WithoutGil());
    module.def("n_physical_cores", &n_physical_cores);
}

} // namespace alora::python
