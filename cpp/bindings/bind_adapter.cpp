#include "bindings.hpp"

namespace alora::python {

void bind_adapter(py::module_ & module) {
    py::class_<Adapter, std::shared_ptr<Adapter>>(module, "Adapter")
        .def_static(
            "load",
            [](std::shared_ptr<Model> model, const std::string & path, bool force) {
                std::shared_ptr<const Adapter> adapter;
                {
                    const WithoutGilScope released;
                    adapter = Adapter::load(std::move(model), path, force);
                }
                return freed_without_gil(std::const_pointer_cast<Adapter>(adapter));
            },
            py::arg("model"), py::arg("path"), py::kw_only(), py::arg("force") = false)
        .def_static("check", &Adapter::check, py::arg("model"), py::arg("path"), py::kw_only(),
                    py::arg("force") = false, WithoutGil())
        .def_static(
            "built_in",
            [](std::shared_ptr<Model> model, int index, std::string name, std::optional<std::string> io_yaml,
               std::vector<Token> invocation_tokens) {
                auto adapter = Adapter::built_in(std::move(model), index, std::move(name), std::move(io_yaml),
                                                 std::move(invocation_tokens));
                return freed_without_gil(std::const_pointer_cast<Adapter>(adapter));
            },
            py::arg("model"), py::arg("index"), py::arg("name"), py::arg("io_yaml"), py::arg("invocation_tokens"))
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
