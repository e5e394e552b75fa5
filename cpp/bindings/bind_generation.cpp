#include "bindings.hpp"

namespace alora::python {

namespace {

std::optional<std::string> finish_name(const GenerationStep & step) {
    switch (step.finish) {
    case FinishReason::stop:
        return "stop";
    case FinishReason::length:
        return "length";
    default:
        return std::nullopt;
    }
}

} // namespace

void bind_generation(py::module_ & module) {
    py::class_<GenerationStep>(module, "GenerationStep")
        .def_readonly("index", &GenerationStep::index)
        .def_readonly("token", &GenerationStep::token)
        .def_readonly("text", &GenerationStep::text)
        .def_property_readonly("finish", finish_name);

    py::class_<Generation>(module, "Generation")
        .def(py::init([](std::shared_ptr<Context> context, std::vector<std::shared_ptr<Branch>> branches,
                         int max_tokens, float temperature, int top_k, float top_p, float min_p, uint32_t seed,
                         std::vector<std::string> stop, std::vector<Token> stop_tokens) {
                 GenerationOptions options;
                 options.max_tokens = max_tokens;
                 options.temperature = temperature;
                 options.top_k = top_k;
                 options.top_p = top_p;
                 options.min_p = min_p;
                 options.seed = seed;
                 options.stop = std::move(stop);
                 options.stop_tokens = std::move(stop_tokens);
                 return std::make_unique<Generation>(std::move(context), std::move(branches), options);
             }),
             py::arg("context"), py::arg("branches"), py::kw_only(), py::arg("max_tokens"), py::arg("temperature"),
             py::arg("top_k"), py::arg("top_p"), py::arg("min_p"), py::arg("seed"), py::arg("stop"),
             py::arg("stop_tokens"), WithoutGil())
        .def("next", [](Generation & generation) { return interruptible([&] { return generation.next(); }); })
        .def(
            "restrict_next",
            [](Generation & generation, int index,
               const py::array_t<uint32_t, py::array::c_style | py::array::forcecast> & allowed) {
                generation.restrict_next(index, {allowed.data(), allowed.data() + allowed.size()});
            },
            py::arg("index"), py::arg("allowed"));
}

} // namespace alora::python
