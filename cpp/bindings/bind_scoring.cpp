#include "bindings.hpp"

namespace alora::python {

void bind_scoring(py::module_ & module) {
    py::class_<LabelScores>(module, "LabelScores")
        .def_readonly("log_probabilities", &LabelScores::log_probabilities)
        .def_readonly("probabilities", &LabelScores::probabilities)
        .def_readonly("off_label", &LabelScores::off_label);

    using Query = std::pair<std::shared_ptr<Branch>, std::vector<std::vector<Token>>>;
    py::class_<Scoring, std::shared_ptr<Scoring>>(module, "Scoring")
        .def(py::init([](std::shared_ptr<Context> context, const std::vector<Query> & queries) {
                 std::vector<LabelQuery> asked;
                 asked.reserve(queries.size());
                 for (const auto & [branch, labels] : queries) {
                     asked.push_back({branch, labels});
                 }
                 std::shared_ptr<Scoring> scoring;
                 {
                     const WithoutGilScope released;
                     scoring = std::make_shared<Scoring>(std::move(context), asked);
                 }
                 return freed_without_gil(std::move(scoring));
             }),
             py::arg("context"), py::arg("queries"))
        .def("read", &Scoring::read, WithoutGil());
}

} // namespace alora::python
