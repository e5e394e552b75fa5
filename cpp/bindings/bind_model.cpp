#include "bindings.hpp"

#include <utility>

namespace alora::python {

namespace {

std::shared_ptr<Model> load(const std::string & path, int n_gpu_layers, bool use_mmap, bool vocabulary_only,
                            const std::optional<std::function<bool(float)>> & progress) {
    ModelOptions options;
    options.n_gpu_layers = n_gpu_layers;
    options.use_mmap = use_mmap;
    options.vocabulary_only = vocabulary_only;
    if (progress) {
        options.progress = [&progress](float fraction) {
            if (is_left_behind()) {
                return false;
            }
            const py::gil_scoped_acquire acquire;
            return (*progress)(fraction);
        };
    }
    std::shared_ptr<const Model> model;
    {
        const WithoutGilScope released;
        model = Model::load(path, options);
    }
    return freed_without_gil(std::const_pointer_cast<Model>(model));
}

} // namespace

void bind_model(py::module_ & module) {
    py::class_<BuiltInAdapter>(module, "BuiltInAdapter")
        .def_readonly("control_token", &BuiltInAdapter::control_token)
        .def_readonly("substitute_token", &BuiltInAdapter::substitute_token);

    py::class_<Model, std::shared_ptr<Model>>(module, "Model")
        .def_static("load", load, py::arg("path"), py::kw_only(), py::arg("n_gpu_layers") = -1,
                    py::arg("use_mmap") = true, py::arg("vocabulary_only") = false, py::arg("progress") = py::none())
        .def_property_readonly("path", &Model::path)
        .def_property_readonly("architecture", &Model::architecture)
        .def_property_readonly("metadata", &Model::metadata)
        .def_property_readonly("chat_template", &Model::chat_template)
        .def_property_readonly("description", &Model::description)
        .def_property_readonly("n_parameters", &Model::n_parameters)
        .def_property_readonly("size", &Model::size)
        .def_property_readonly("n_ctx_train", &Model::n_ctx_train)
        .def_property_readonly("n_embd", &Model::n_embd)
        .def_property_readonly("n_layer", &Model::n_layer)
        .def_property_readonly("n_vocab", &Model::n_vocab)
        .def_property_readonly("fingerprints", &Model::fingerprints)
        .def_property_readonly("built_in_adapters", &Model::built_in_adapters)
        .def_property_readonly("bos", &Model::bos)
        .def_property_readonly("eos", &Model::eos)
        .def_property_readonly("control_tokens", &Model::control_tokens)
        .def(
            "tokenize",
            [](const Model & model, const py::bytes & text, bool parse_special, bool add_special) {
                const std::string_view view = text;
                const WithoutGilScope released;
                return model.tokenize(view, parse_special, add_special);
            },
            py::arg("text"), py::kw_only(), py::arg("parse_special") = false, py::arg("add_special") = false)
        .def(
            "piece",
            [](const Model & model, Token token, bool special) { return py::bytes(model.piece(token, special)); },
            py::arg("token"), py::kw_only(), py::arg("special") = false)
        .def(
            "detokenize",
            [](const Model & model, const std::vector<Token> & tokens, bool special) {
                return py::bytes(model.detokenize(tokens, special));
            },
            py::arg("tokens"), py::kw_only(), py::arg("special") = false)
        .def("is_control", &Model::is_control, py::arg("token"))
        .def("is_end_of_generation", &Model::is_end_of_generation, py::arg("token"));
}

} // namespace alora::python
