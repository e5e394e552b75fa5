// What stock llama.cpp takes for one verdict: `llama_set_adapters_lora` and the invocation on the cache as it is, and
// the same with the prompt read again under the adapter, as llama-server does and a LoRA must.
//
//     stock_switch MODEL ADAPTER_1,ADAPTER_2 LAYERS PROMPT ROUNDS THREADS
//
// prints {"prompt": N, "switch_ms": [...], "reread_ms": [...]}.
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int n_invocation = 4;
constexpr int n_piece = 512;

struct Freed {
    void operator()(llama_model * model) const { llama_model_free(model); }
    void operator()(llama_context * context) const { llama_free(context); }
};

void decode(llama_context * context, int first, int count) {
    for (int done = 0; done < count; done += n_piece) {
        const int n = std::min(n_piece, count - done);
        llama_batch batch = llama_batch_init(n, 0, 1);
        for (int i = 0; i < n; ++i) {
            const int position = first + done + i;
            batch.token[i] = 2 + position * 7 % 900;
            batch.pos[i] = position;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = done + i == count - 1 ? 1 : 0;
        }
        batch.n_tokens = n;
        const int status = llama_decode(context, batch);
        llama_batch_free(batch);
        if (status != 0) {
            throw std::runtime_error("llama_decode gave " + std::to_string(status));
        }
    }
    llama_synchronize(context);
}

double milliseconds(const std::function<void()> & work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

void print(const char * name, const std::vector<double> & values) {
    std::printf(", \"%s\": [", name);
    for (size_t i = 0; i < values.size(); ++i) {
        std::printf("%s%.3f", i == 0 ? "" : ", ", values[i]);
    }
    std::printf("]");
}

void run(char ** arguments) {
    const int layers = std::atoi(arguments[3]);
    const int prompt = std::atoi(arguments[4]);
    const int rounds = std::atoi(arguments[5]);
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = layers;
    const std::unique_ptr<llama_model, Freed> model(llama_model_load_from_file(arguments[1], model_params));
    std::vector<llama_adapter_lora *> adapters; // they go with the model
    std::istringstream paths(arguments[2]);
    for (std::string path; model && std::getline(paths, path, ',');) {
        adapters.push_back(llama_adapter_lora_init(model.get(), path.c_str()));
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(prompt + 256);
    params.n_batch = params.n_ubatch = n_piece;
    params.n_threads = params.n_threads_batch = std::max(1, std::atoi(arguments[6]));
    const std::unique_ptr<llama_context, Freed> context(llama_init_from_model(model.get(), params));
    if (!context || adapters.empty() || adapters.front() == nullptr) {
        throw std::runtime_error("model, adapters or context could not be loaded");
    }
    llama_memory_t memory = llama_get_memory(context.get());
    decode(context.get(), 0, prompt);
    std::vector<double> switches;
    std::vector<double> rereads;
    float scale = 1.0f;
    for (int round = 0; round <= rounds; ++round) {
        llama_adapter_lora * adapter = adapters[static_cast<size_t>(round) % adapters.size()];
        const double taken = milliseconds([&] {
            llama_set_adapters_lora(context.get(), &adapter, 1, &scale);
            decode(context.get(), prompt, n_invocation);
        });
        llama_memory_seq_rm(memory, 0, prompt, -1);
        if (round > 0) { // the first one warms up
            switches.push_back(taken);
        }
    }
    for (int round = 0; round < rounds; ++round) {
        llama_adapter_lora * adapter = adapters[static_cast<size_t>(round) % adapters.size()];
        rereads.push_back(milliseconds([&] {
            llama_memory_clear(memory, false);
            llama_set_adapters_lora(context.get(), &adapter, 1, &scale);
            decode(context.get(), 0, prompt + n_invocation);
        }));
    }
    std::printf("{\"prompt\": %d", prompt);
    print("switch_ms", switches);
    print("reread_ms", rereads);
    std::printf("}\n");
}

} // namespace

int main(int argc, char ** argv) {
    if (argc != 7) {
        std::fprintf(stderr, "usage: stock_switch MODEL ADAPTER,ADAPTER LAYERS PROMPT ROUNDS THREADS\n");
        return 2;
    }
    try {
        llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
        run(argv);
        return 0;
    } catch (const std::exception & error) {
        std::fprintf(stderr, "stock_switch: %s\n", error.what());
        return 1;
    }
}
