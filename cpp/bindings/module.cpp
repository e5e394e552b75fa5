#include "bindings.hpp"

PYBIND11_MODULE(_core, module) {
    module.doc() = "The C++ core of alora_cpp; use the package's own classes.";
    alora::python::watch_the_interpreter();
    alora::python::bind_error(module);
    alora::python::bind_log(module);
    alora::python::bind_identity(module);
    alora::python::bind_processor(module);
    alora::python::bind_device(module);
    alora::python::bind_model(module);
    alora::python::bind_adapter(module);
    alora::python::bind_branch(module); // before what hands branches out, so that signatures name them
    alora::python::bind_context(module);
    alora::python::bind_scoring(module);
    alora::python::bind_generation(module);
}
