// Structures of programs that are older or newer than the library, and options that are none.
#include "support.hpp"

#include <cstddef>
#include <cstring>
#include <limits>

TEST_CASE("the library is of the header's ABI") {
    CHECK(alora_abi_version() == ALORA_ABI_VERSION);
    CHECK(std::string(alora_version()).find('.') != std::string::npos);
}

TEST_CASE("options have their defaults, and no byte behind them is touched") {
    struct {
        alora_context_options options;
        unsigned char behind[8];
    } guarded;
    std::memset(&guarded, 0xab, sizeof(guarded));
    OK(alora_context_options_init(&guarded.options, sizeof(guarded.options), error.out()));
    CHECK(guarded.options.struct_size == sizeof(guarded.options));
    CHECK(std::string(guarded.options.kv_type) == "f16");
    CHECK(std::string(guarded.options.flash_attention) == "auto");
    CHECK(guarded.options.n_ctx == 0);
    for (const unsigned char byte : guarded.behind) {
        CHECK(byte == 0xab);
    }
    alora_generation_options generation;
    OK(alora_generation_options_init(&generation, sizeof(generation), error.out()));
    CHECK(generation.max_tokens == 256);
    CHECK(generation.top_p == 1.0f);
    alora_model_options model_options;
    OK(alora_model_options_init(&model_options, sizeof(model_options), error.out()));
    CHECK(model_options.use_mmap);
    CHECK(model_options.n_gpu_layers == -1);
    alora_adapter_options adapter;
    OK(alora_adapter_options_init(&adapter, sizeof(adapter), error.out()));
    CHECK_FALSE(adapter.force);
}

TEST_CASE("an older program's options end earlier: the rest is the default") {
    constexpr size_t older = offsetof(alora_context_options, n_branches);
    alora_context_options options;
    std::memset(&options, 0xff, sizeof(options)); // an older program has none of this
    OK(alora_context_options_init(&options, older, error.out()));
    CHECK(options.struct_size == older);
    CHECK(options.n_branches == -1); // not ours to write
    options.n_ctx = 64;
    alora_context * made = nullptr;
    OK(alora_context_create(model(), &options, &made, error.out()));
    const Owned<alora_context> context(made);
    CHECK(info_of(context.get()).n_ctx == 64);
}

TEST_CASE("an older program's info ends earlier: nothing is written behind it") {
    alora_context_info info;
    std::memset(&info, 0xab, sizeof(info));
    const auto context = open_context();
    OK(alora_context_get_info(context.get(), &info, offsetof(alora_context_info, n_cells_used), error.out()));
    CHECK(info.n_ctx == 256);
    CHECK(info.n_cells_used == static_cast<int32_t>(0xabababab));
}

TEST_CASE("a newer program's info is zero where the library knows nothing") {
    struct {
        alora_branch_info info;
        uint64_t newer;
    } info = {{}, 7};
    const auto context = open_context();
    const auto branch = open_branch(context.get(), question);
    OK(alora_branch_get_info(branch.get(), &info.info, sizeof(info), error.out()));
    CHECK(info.info.length > 0);
    CHECK(info.newer == 0);
}

TEST_CASE("options that init did not fill, or of a newer program, are refused") {
    alora_context * context = nullptr;
    alora_context_options options = {};
    FAILS(ALORA_ERROR_ARGUMENT, "alora_context_options_init",
          alora_context_create(model(), &options, &context, error.out()));
    CHECK(context == nullptr);
    FAILS(ALORA_ERROR_ARGUMENT, "older library",
          alora_context_options_init(&options, sizeof(options) + 8, error.out()));
    options.struct_size = std::numeric_limits<size_t>::max();
    FAILS(ALORA_ERROR_ARGUMENT, "expected up to", alora_context_create(model(), &options, &context, error.out()));
}

TEST_CASE("options outside their range are refused") {
    const auto refused = [](const char * words, auto change) {
        alora_context_options options;
        OK(alora_context_options_init(&options, sizeof(options), error.out()));
        change(options);
        alora_context * context = nullptr;
        FAILS(ALORA_ERROR_ARGUMENT, words, alora_context_create(model(), &options, &context, error.out()));
        CHECK(context == nullptr);
    };
    refused("n_ctx is -1", [](auto & options) { options.n_ctx = -1; });
    refused("n_branches is 256", [](auto & options) { options.n_branches = 256; });
    refused("kv_type is 'q3'", [](auto & options) { options.kv_type = "q3"; });
    refused("kv_type is NULL", [](auto & options) { options.kv_type = nullptr; });
}
