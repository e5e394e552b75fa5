#include "bindings.hpp"

namespace alora::python {

void bind_adapter(py::module_ & module) {
    py::class_<Adapter, std::shared_ptr<Adapter>>(module, "Adapter")
        .def_static(
            "load",
            [](std::shared_ptr<Model> model, const std::string & path) {
                std::shared_ptr<const Adapter> adapter;
                {
                    const py::gil_scoped_release release;
                    adapter = Adapter::load(std::move(model), path);
                }
                return freed_without_gil(std::const_pointer_cast<Adapter>(adapter));
            },
            py::arg("model"), py::arg("path"))
        .def_property_readonly("path", &Adapter::path)
        .def_property_readonly("name", &Adapter::name)
        .def_property_readonly("metadata", &Adapter::metadata)
        .def_property_readonly("invocation_tokens", &Adapter::invocation_tokens)
        .def_property_readonly("activation_offset", &Adapter::activation_offset)
        .def_property_readonly("io_yaml", &Adapter::io_yaml)
        .def_property_readonly("rank", &Adapter::rank)
        .def_property_readonly("alpha", &Adapter::alpha)
        .def_property_readonly("targets", &Adapter::targets)
        .def_property_readonly("size", &Adapter::size)
        .def("find_invocation", &Adapter::find_invocation, py::arg("tokens"));
}

} // namespace alora::python
