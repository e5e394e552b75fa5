// A conversation with the bundled model that judges each question before it is answered.
//
// usage: assistant FOLDER QUESTION...
//
// FOLDER has alora-tiny.gguf and its adapters. Exit status: 0 done, 1 failed, 2 usage.
#include <alora/alora.hpp>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

class Conversation {
public:
    Conversation(std::shared_ptr<const alora::Model> model, const std::string & safety)
        : model_(std::move(model)), safety_(alora::Adapter::load(model_, safety)) {
        alora::ContextOptions options;
        options.n_ctx = 1024;
        context_ = alora::Context::create(model_, options);
        trunk_ = context_->branch();
    }

    // Whatever the user wrote, none of it becomes a control token.
    void add(const std::string & role, const std::string & text) {
        begin_turn(role);
        trunk_->append(model_->tokenize(text));
        end_turn();
    }

    // How likely the user's last request is unsafe. The adapter governs the fork from its invocation on; what the trunk
    // has read is shared with it, and the fork is gone afterwards.
    double unsafe() {
        const auto fork = trunk_->fork();
        fork->activate(safety_);
        fork->append(safety_->invocation_tokens());
        const alora::LabelQuery query = {fork, {model_->tokenize("Y"), model_->tokenize("N")}};
        return alora::score(context_, {query}).front().probabilities.front();
    }

    void reply() {
        begin_turn("assistant");
        alora::GenerationOptions options;
        options.max_tokens = 128;
        alora::Generation generation(context_, {trunk_}, options);
        for (auto steps = generation.next(); !steps.empty(); steps = generation.next()) {
            std::fputs(steps.front().text.c_str(), stdout);
            std::fflush(stdout);
        }
        end_turn();
    }

    uint64_t rows_decoded() const { return context_->counters().rows_decoded; }

private:
    void begin_turn(const std::string & role) {
        trunk_->append(model_->tokenize("<|start_of_role|>" + role + "<|end_of_role|>", true));
    }
    void end_turn() { trunk_->append(model_->tokenize("<|end_of_text|>\n", true)); }

    std::shared_ptr<const alora::Model> model_;
    std::shared_ptr<const alora::Adapter> safety_;
    std::shared_ptr<alora::Context> context_;
    std::shared_ptr<alora::Branch> trunk_;
};

} // namespace

int main(int argc, char ** argv) {
    const std::vector<std::string> arguments(argv, argv + argc);
    if (arguments.size() < 3) {
        std::fprintf(stderr, "usage: %s FOLDER QUESTION...\n", argv[0]);
        return 2;
    }
    try {
        const std::string stem = arguments[1] + "/alora-tiny";
        Conversation conversation(alora::Model::load(stem + ".gguf"), stem + ".safety.gguf");
        for (size_t i = 2; i < arguments.size(); ++i) {
            conversation.add("user", arguments[i]);
            std::printf("user: %s\nsafety: Y %.4f\nassistant: ", arguments[i].c_str(), conversation.unsafe());
            conversation.reply();
            std::printf("\n");
        }
        std::printf("rows computed: %llu\n", static_cast<unsigned long long>(conversation.rows_decoded()));
    } catch (const alora::ModelLoadError & error) {
        std::fprintf(stderr, "the model cannot be loaded: %s\n", error.what());
        return 1;
    } catch (const std::exception & error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
