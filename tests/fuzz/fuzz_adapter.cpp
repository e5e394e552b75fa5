// Feeds whatever libFuzzer makes to Adapter::load, and with it to ggml's reader of GGUF and llama.cpp's of adapters. An
// AdapterError is the right answer to a broken file; any other exception, an abort or a report of the sanitizer is not.
//
// The environment variable ALORA_FUZZ_MODEL names the model that the adapters are for.

#include "alora/adapter.hpp"
#include "alora/branch.hpp"
#include "alora/context.hpp"
#include "alora/error.hpp"
#include "alora/model.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

namespace {

std::shared_ptr<const alora::Model> load_model() {
    const char * path = std::getenv("ALORA_FUZZ_MODEL");
    if (path == nullptr) {
        std::fputs("ALORA_FUZZ_MODEL must name the model that the adapters are for\n", stderr);
        std::exit(2);
    }
    return alora::Model::load(path);
}

std::shared_ptr<alora::Context> open_context(std::shared_ptr<const alora::Model> model) {
    alora::ContextOptions options;
    options.n_ctx = 32;
    options.n_branches = 2;
    options.n_ubatch = 4;
    options.n_threads = 1;
    return alora::Context::create(std::move(model), options);
}

// A file without a disk: the reader wants a path, and each input a fresh one.
class MemoryFile {
public:
    MemoryFile(const uint8_t * data, size_t size) : descriptor_(memfd_create("adapter", MFD_CLOEXEC)) {
        for (size_t done = 0; done < size;) {
            const ssize_t written = write(descriptor_, data + done, size - done);
            if (written <= 0) {
                std::perror("memfd");
                std::exit(2);
            }
            done += static_cast<size_t>(written);
        }
    }
    ~MemoryFile() { close(descriptor_); }
    MemoryFile(const MemoryFile &) = delete;
    MemoryFile & operator=(const MemoryFile &) = delete;

    std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

private:
    int descriptor_;
};

// What was loaded must also run, whatever types and shapes its tensors have.
void compute_a_row(alora::Context & context, std::shared_ptr<const alora::Adapter> adapter) {
    const std::shared_ptr<alora::Branch> branch = context.branch();
    branch->activate(std::move(adapter));
    branch->append({5});
    context.decode();
}

} // namespace

static std::shared_ptr<const alora::Model> model;
static std::shared_ptr<alora::Context> context;

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
    model = load_model();
    context = open_context(model);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const MemoryFile file(data, size);
    // Checked as strictly as can be, and then as little.
    for (const bool force : {false, true}) {
        try {
            compute_a_row(*context, alora::Adapter::load(model, file.path(), force));
            return 0;
        } catch (const alora::AdapterError &) { // NOLINT: the answer that was wanted
        }
    }
    return 0;
}
