#include "bindings.hpp"

#include <cstring>

namespace alora::python {

namespace {

// The classes live in alora_cpp.errors, where their documentation is; here they are only raised.
template <typename Error>
bool raise_as(const std::exception & error, const char * name) {
    if (dynamic_cast<const Error *>(&error) == nullptr) {
        return false;
    }
    const py::object type = py::module_::import("alora_cpp.errors").attr(name);
    // Names and texts from files are in messages, whatever bytes they are.
    const char * what = error.what();
    const auto text = py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(what, static_cast<py::ssize_t>(std::strlen(what)), "replace"));
    PyErr_SetObject(type.ptr(), text.ptr());
    return true;
}

void translate(std::exception_ptr pointer) {
    try {
        std::rethrow_exception(pointer);
    } catch (const AloraError & error) {
        // Derived classes before their bases.
        raise_as<AdapterMismatchError>(error, "AdapterMismatchError") ||
            raise_as<InvocationNotFoundError>(error, "InvocationNotFoundError") ||
            raise_as<AdapterError>(error, "AdapterError") || raise_as<ModelLoadError>(error, "ModelLoadError") ||
            raise_as<ContextFullError>(error, "ContextFullError") || raise_as<PositionError>(error, "PositionError") ||
            raise_as<TokenError>(error, "TokenError") || raise_as<ArgumentError>(error, "ArgumentError") ||
            raise_as<ClosedError>(error, "ClosedError") || raise_as<Cancelled>(error, "Cancelled") ||
            raise_as<BackendError>(error, "BackendError") || raise_as<AloraError>(error, "AloraError");
    }
}

} // namespace

void bind_error(py::module_ & /*module*/) {
    py::register_local_exception_translator(translate);
}

} // namespace alora::python
