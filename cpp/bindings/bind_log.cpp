#include "bindings.hpp"

namespace alora::python {

void bind_log(py::module_ & module) {
    module.def(
        "set_log_sink",
        [](const py::object & sink) {
            if (sink.is_none()) {
                set_log_sink({});
                return;
            }
            auto callable = freed_without_gil(std::make_shared<py::object>(sink));
            set_log_sink([callable](LogLevel level, const std::string & text) {
                if (Py_IsInitialized() == 0) {
                    return;
                }
                const py::gil_scoped_acquire acquire;
                try {
                    (*callable)(static_cast<int>(level), py::bytes(text));
                } catch (py::error_already_set & error) {
                    error.discard_as_unraisable("alora_cpp log sink");
                }
            });
        },
        py::arg("sink"), "Sends llama.cpp's log lines to sink(level, bytes); None drops them.");
}

} // namespace alora::python
