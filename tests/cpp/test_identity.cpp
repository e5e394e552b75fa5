// What tells base models apart.
#include "alora/error.hpp"
#include "support.hpp"

#include <filesystem>
#include <fstream>

using namespace alora;
using namespace alora::test;

TEST_CASE("names match where the words of one are among those of the other") {
    const std::string base = "ibm-granite/granite-3.3-8b-instruct";
    CHECK(names_match(base, {"Granite 3.3 8b Instruct"}));
    CHECK(names_match(base, {"model", "granite-3.3-8b-instruct-Q4_K_M"}));
    CHECK(names_match(base, {"Granite-3.3-8B"}));
    CHECK_FALSE(names_match(base, {"Granite 3.2 8b Instruct", "granite-3.2-8b-instruct-Q4_K_M"}));
    CHECK_FALSE(names_match(base, {"granite-3.3-2b-instruct"}));
    CHECK_FALSE(names_match("tiny", {"tinier"}));
}

TEST_CASE("nothing to compare is no difference") {
    CHECK(names_match("", {"Granite 3.3 8b Instruct"}));
    CHECK(names_match("ibm-granite/granite-3.3-8b-instruct", {}));
    CHECK(names_match("granite", {"", "--"}));
}

TEST_CASE("a model's fingerprints are those of its file") {
    const Fingerprints read = read_fingerprints(model_path());
    CHECK(read.vocabulary.size() == 16);
    CHECK(read.weights->size() == 16);
    CHECK(model()->fingerprints().vocabulary == read.vocabulary);
    CHECK(model()->fingerprints().weights == read.weights);
}

TEST_CASE("a file that is no model has no fingerprints") {
    CHECK_THROWS_AS(read_fingerprints("no/such/file.gguf"), ModelLoadError);
    const auto path = std::filesystem::temp_directory_path() / "alora_test_identity.gguf";
    std::ofstream(path, std::ios::binary) << "GGUF and no more";
    CHECK_THROWS_AS(read_fingerprints(path.string()), ModelLoadError);
    std::filesystem::remove(path);
}

TEST_CASE("most models have no built-in adapters") {
    CHECK(model()->built_in_adapters().empty());
    CHECK_THROWS_AS(Adapter::built_in(model(), 0, "safety", {}, {1}), ArgumentError);
}
