#include "bindings.hpp"

namespace alora::python {

namespace {

// Lets Ctrl-C end a long computation: asked now and then on the computing thread.
bool signal_pending() {
    if (is_left_behind()) {
        return true; // nobody waits for what it computes
    }
    if (Py_IsInitialized() == 0) {
        return false;
    }
    const py::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() != 0;
}

} // namespace

void bind_context(py::module_ & module) {
    py::class_<ContextCounters>(module, "ContextCounters")
        .def_readonly("rows_decoded", &ContextCounters::rows_decoded)
        .def_readonly("batches", &ContextCounters::batches)
        .def_readonly("graphs_reused", &ContextCounters::graphs_reused)
        .def_readonly("compute_bytes", &ContextCounters::compute_bytes);

    py::class_<Context, std::shared_ptr<Context>>(module, "Context")
        .def_static(
            "create",
            [](std::shared_ptr<Model> model, int n_ctx, int n_branches, int n_ubatch, int n_threads,
               const std::string & kv_type, const std::string & flash_attention) {
                ContextOptions options;
                options.n_ctx = n_ctx;
                options.n_branches = n_branches;
                options.n_ubatch = n_ubatch;
                options.n_threads = n_threads;
                options.kv_type = kv_type;
                options.flash_attention = flash_attention;
                std::shared_ptr<Context> context;
                {
                    const WithoutGilScope released;
                    context = Context::create(std::move(model), options);
                    context->set_interrupt(signal_pending);
                }
                return freed_without_gil(std::move(context));
            },
            py::arg("model"), py::kw_only(), py::arg("n_ctx"), py::arg("n_branches"), py::arg("n_ubatch"),
            py::arg("n_threads"), py::arg("kv_type"), py::arg("flash_attention"))
        .def_property_readonly("n_ctx", &Context::n_ctx)
        .def_property_readonly("n_cells_used", py::cpp_function(&Context::n_cells_used, WithoutGil()))
        .def_property_readonly("n_branches", py::cpp_function(&Context::n_branches, WithoutGil()))
        .def_property_readonly("closed", py::cpp_function(&Context::closed, WithoutGil()))
        .def_property_readonly("counters", py::cpp_function(&Context::counters, WithoutGil()))
        .def("branch",
             [](Context & context) {
                 std::shared_ptr<Branch> branch;
                 {
                     const WithoutGilScope released;
                     branch = context.branch();
                 }
                 return freed_without_gil(std::move(branch));
             })
        .def("decode", [](Context & context) { interruptible([&] { context.decode(); }); })
        .def(
            "restore",
            [](Context & context, const py::bytes & saved) {
                const auto bytes = static_cast<std::string_view>(saved);
                std::shared_ptr<Branch> branch;
                {
                    const WithoutGilScope released;
                    branch = context.restore({bytes.begin(), bytes.end()});
                }
                return freed_without_gil(std::move(branch));
            },
            py::arg("saved"))
        .def("cancel", &Context::cancel)
        .def("resume", &Context::resume)
        .def("close", &Context::close, WithoutGil());
}

} // namespace alora::python
