#include "bindings.hpp"

#include <algorithm>

namespace alora::python {

namespace {

py::array_t<float> logits(const Branch & branch, int rows) {
    const std::vector<float> values = interruptible([&] { return branch.logits(rows); });
    const auto n_rows = static_cast<py::ssize_t>(rows);
    py::array_t<float> array({n_rows, static_cast<py::ssize_t>(values.size()) / n_rows});
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

template <typename Work>
py::bytes to_bytes(const Work & work) {
    std::vector<uint8_t> bytes;
    {
        const WithoutGilScope released;
        bytes = work();
    }
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()}; // NOLINT: bytes to bytes
}

} // namespace

void bind_branch(py::module_ & module) {
    py::class_<Branch, std::shared_ptr<Branch>>(module, "Branch")
        .def(
            "append", [](Branch & branch, const std::vector<Token> & tokens) { branch.append(tokens); },
            py::arg("tokens"), WithoutGil())
        .def(
            "fork",
            [](const Branch & branch, std::optional<int> at) {
                std::shared_ptr<Branch> forked;
                {
                    const WithoutGilScope released;
                    forked = branch.fork(at);
                }
                return freed_without_gil(std::move(forked));
            },
            py::arg("at") = py::none())
        .def(
            "activate",
            [](Branch & branch, std::shared_ptr<Adapter> adapter, float scale) {
                branch.activate(std::move(adapter), scale);
            },
            py::arg("adapter"), py::arg("scale") = 1.0f, WithoutGil())
        .def("logits", logits, py::arg("rows") = 1)
        .def_property_readonly("length", py::cpp_function(&Branch::length, WithoutGil()))
        .def_property_readonly("n_queued", py::cpp_function(&Branch::n_queued, WithoutGil()))
        .def_property_readonly("tokens", py::cpp_function(&Branch::tokens, WithoutGil()))
        .def_property_readonly("activation_position", py::cpp_function(&Branch::activation_position, WithoutGil()))
        .def_property_readonly("closed", py::cpp_function(&Branch::closed, WithoutGil()))
        .def("drop", &Branch::drop, py::arg("begin"), py::arg("end"), WithoutGil())
        .def("save", [](const Branch & branch) { return to_bytes([&] { return branch.save(); }); })
        .def("kv_bytes", [](const Branch & branch) { return to_bytes([&] { return branch.kv_bytes(); }); })
        .def("close", &Branch::close, WithoutGil());
}

} // namespace alora::python
