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
            // The last reference may go when Python is gone already; then there is nothing left to count down.
            const std::shared_ptr<py::object> callable(new py::object(sink), [](py::object * object) {
                if (Py_IsInitialized() != 0 && !is_left_behind()) {
                    const py::gil_scoped_acquire acquire;
                    delete object;
                }
            });
            set_log_sink([callable](LogLevel level, const std::string & text) {
                if (Py_IsInitialized() == 0 || is_left_behind()) {
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
