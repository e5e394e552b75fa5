#include "bindings.hpp"

namespace alora::python {

void bind_identity(py::module_ & module) {
    py::class_<Fingerprints>(module, "Fingerprints")
        .def_readonly("vocabulary", &Fingerprints::vocabulary)
        .def_readonly("weights", &Fingerprints::weights);
    module.def("read_fingerprints", &read_fingerprints, py::arg("path"), WithoutGil());
    module.def("names_match", &names_match, py::arg("base"), py::arg("names"));
}

} // namespace alora::python
