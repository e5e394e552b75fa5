#include "bindings.hpp"

namespace alora::python {

void bind_scoring(py::module_ & module) {
    py::class_<LabelScores>(module, "LabelScores")
        .def_readonly("log_probabilities", &LabelScores::log_probabilities)
        .def_readonly("probabilities", &LabelScores::probabilities)
        .def_readonly("off_label", &LabelScores::off_label);

    using Query = std::pair<std::shared_ptr<Branch>, std::vector<std::vector<Token>>>;
    module.def(
        "score",
        [](Context & context, const std::vector<Query> & queries) {
            std::vector<LabelQuery> asked;
            asked.reserve(queries.size());
            for (const auto & [branch, labels] : queries) {
                asked.push_back({branch, labels});
            }
            return interruptible([&] { return score(context, asked); });
        },
        py::arg("context"), py::arg("queries"));
}

} // namespace alora::python
