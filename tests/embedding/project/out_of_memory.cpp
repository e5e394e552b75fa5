// Lets each allocation of C++ objects fail in turn: every call must answer ALORA_ERROR_OUT_OF_MEMORY, and the handles
// must be as usable as before.
//
// usage: out_of_memory FOLDER
#include <alora.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

namespace {

long allocations_left = -1; // until one fails; negative: none does

void * allocate(std::size_t size) {
    if (allocations_left == 0) {
        throw std::bad_alloc();
    }
    if (allocations_left > 0) {
        --allocations_left;
    }
    void * memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

int failures = 0;

void expect(bool holds, const char * what, long after) {
    if (!holds) {
        std::printf("%s does not hold after %ld allocations\n", what, after);
        ++failures;
    }
}

// Runs the call with one more allocation each time until none fails. What it made is undone by `undo`.
template <typename Call, typename Undo>
void starve(const char * what, const Call & call, const Undo & undo) {
    for (long n = 0;; ++n) {
        alora_error * error = nullptr;
        allocations_left = n;
        const alora_status status = call(&error);
        const bool none_failed = allocations_left > 0;
        allocations_left = -1;
        if (status == ALORA_OK) {
            undo();
            if (none_failed) {
                std::printf("%s: %ld allocations\n", what, n - 1);
                return;
            }
            continue; // one that it can do without
        }
        if (status != ALORA_ERROR_OUT_OF_MEMORY) {
            std::printf("%s: %s\n", what, alora_error_message(error));
        }
        expect(status == ALORA_ERROR_OUT_OF_MEMORY, what, n);
        expect(alora_error_status(error) == status, "the error's status", n);
        expect(alora_error_message(error)[0] != '\0', "the error's message", n);
        alora_error_free(error);
        if (n > 100000) {
            expect(false, "an end", n);
            return;
        }
    }
}

} // namespace

// NOLINTBEGIN(misc-definitions-in-headers): the library's are these, too
void * operator new(std::size_t size) {
    return allocate(size);
}
void operator delete(void * memory) noexcept {
    std::free(memory);
}
void operator delete(void * memory, std::size_t /*size*/) noexcept {
    std::free(memory);
}
// NOLINTEND(misc-definitions-in-headers)

int main(int argc, char ** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    const std::string folder = argv[1];
    alora_model * model = nullptr;
    alora_context * context = nullptr;
    alora_branch * trunk = nullptr;
    if (alora_model_load((folder + "/alora-tiny.gguf").c_str(), nullptr, &model, nullptr) != ALORA_OK ||
        alora_context_create(model, nullptr, &context, nullptr) != ALORA_OK ||
        alora_context_branch(context, &trunk, nullptr) != ALORA_OK) {
        std::printf("nothing to starve in %s\n", argv[1]);
        return 1;
    }
    const std::string text = "Who designed the Lantern Museum?";
    alora_token * tokens = nullptr;
    size_t n_tokens = 0;
    const auto tokenize = [&](alora_error ** error) {
        return alora_model_tokenize(model, text.data(), text.size(), false, false, &tokens, &n_tokens, error);
    };
    starve("alora_model_tokenize", tokenize, [&] { alora_free(tokens); });
    tokenize(nullptr);

    alora_adapter * adapter = nullptr;
    const std::string path = folder + "/alora-tiny.safety.gguf";
    starve(
        "alora_adapter_check",
        [&](alora_error ** error) { return alora_adapter_check(model, path.c_str(), nullptr, error); }, [] {});
    alora_adapter_load(model, path.c_str(), nullptr, &adapter, nullptr);

    starve(
        "alora_branch_append",
        [&](alora_error ** error) { return alora_branch_append(trunk, tokens, n_tokens, 1, error); },
        [&] {
            alora_branch_info info;
            alora_branch_get_info(trunk, &info, sizeof(info), nullptr);
            expect(info.length == static_cast<int32_t>(n_tokens), "one append", 0);
            alora_branch_free(trunk);
            alora_context_branch(context, &trunk, nullptr);
        });
    alora_branch_append(trunk, tokens, n_tokens, 1, nullptr);
    alora_context_decode(context, nullptr);

    alora_branch * fork = nullptr;
    starve(
        "alora_branch_fork", [&](alora_error ** error) { return alora_branch_fork(trunk, ALORA_END, &fork, error); },
        [&] { alora_branch_free(fork); });
    alora_context_info info;
    alora_context_get_info(context, &info, sizeof(info), nullptr);
    expect(info.n_branches == 1, "one open branch", 0);
    expect(info.n_cells_used == static_cast<int32_t>(n_tokens), "the trunk's cells alone", 0);

    const alora_label label = {tokens, 2};
    const alora_label_query query = {trunk, &label, 1};
    alora_scoring * scoring = nullptr;
    starve(
        "alora_scoring_create",
        [&](alora_error ** error) { return alora_scoring_create(context, &query, 1, &scoring, error); },
        [&] { alora_scoring_free(scoring); });
    alora_context_get_info(context, &info, sizeof(info), nullptr);
    expect(info.n_cells_used == static_cast<int32_t>(n_tokens), "the trunk's cells alone", 0);

    alora_generation * generation = nullptr;
    starve(
        "alora_generation_create",
        [&](alora_error ** error) { return alora_generation_create(context, &trunk, 1, nullptr, &generation, error); },
        [&] { alora_generation_free(generation); });

    double probability = 0.0;
    const alora_label_scores scores = {&probability, nullptr, nullptr};
    expect(alora_score(context, &query, 1, &scores, nullptr) == ALORA_OK, "scoring as ever", 0);
    expect(probability > 0.99, "the one label's probability", 0);

    alora_free(tokens);
    alora_branch_free(trunk);
    alora_adapter_free(adapter);
    alora_context_free(context);
    alora_model_free(model);
    return failures == 0 ? 0 : 1;
}
