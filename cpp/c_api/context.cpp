#include "alora/context.hpp"

#include "alora/branch.hpp"
#include "handles.hpp"
#include "structures.hpp"

#include <memory>

using namespace alora::c;

namespace {

alora_context_options default_options() {
    const alora::ContextOptions defaults;
    alora_context_options options = {};
    options.struct_size = sizeof(options);
    options.kv_type = "f16";
    options.flash_attention = "auto";
    options.n_ctx = defaults.n_ctx;
    options.n_branches = defaults.n_branches;
    options.n_ubatch = defaults.n_ubatch;
    options.n_threads = defaults.n_threads;
    return options;
}

alora::Context & of(const alora_context * context) {
    return *given(context, "context").context;
}

} // namespace

alora_status alora_context_options_init(alora_context_options * options, size_t struct_size, alora_error ** error) {
    return call(error, [&] { init_options(options, struct_size, default_options(), "alora_context_options"); });
}

alora_status alora_context_create(const alora_model * model, const alora_context_options * options,
                                  alora_context ** context, alora_error ** error) {
    return call(error, [&] {
        cleared(context, "context");
        const alora_context_options asked = read_options(options, default_options(), "alora_context_options");
        alora::ContextOptions wanted;
        wanted.n_ctx = asked.n_ctx;
        wanted.n_branches = asked.n_branches;
        wanted.n_ubatch = asked.n_ubatch;
        wanted.n_threads = asked.n_threads;
        wanted.kv_type = &given(asked.kv_type, "kv_type");
        wanted.flash_attention = &given(asked.flash_attention, "flash_attention");
        auto handle = std::make_unique<alora_context>();
        handle->context = alora::Context::create(given(model, "model").model, wanted);
        *context = handle.release();
    });
}

void alora_context_free(alora_context * context) {
    delete context;
}

alora_status alora_context_get_info(const alora_context * context, alora_context_info * info, size_t info_size,
                                    alora_error ** error) {
    return call(error, [&] {
        const alora::Context & from = of(context);
        const alora::ContextCounters counters = from.counters();
        alora_context_info known = {};
        known.rows_decoded = counters.rows_decoded;
        known.batches = counters.batches;
        known.graphs_reused = counters.graphs_reused;
        known.compute_bytes = counters.compute_bytes;
        known.n_ctx = from.n_ctx();
        known.n_cells_used = from.n_cells_used();
        known.n_branches = from.n_branches();
        known.closed = from.closed();
        write_info(known, info, info_size);
    });
}

alora_status alora_context_branch(alora_context * context, alora_branch ** branch, alora_error ** error) {
    return call(error, [&] {
        cleared(branch, "branch");
        auto handle = std::make_unique<alora_branch>();
        handle->branch = of(context).branch();
        *branch = handle.release();
    });
}

alora_status alora_context_restore(alora_context * context, const void * bytes, size_t size, alora_branch ** branch,
                                   alora_error ** error) {
    return call(error, [&] {
        cleared(branch, "branch");
        const auto * begin = &given(static_cast<const uint8_t *>(bytes), "bytes");
        auto handle = std::make_unique<alora_branch>();
        handle->branch = of(context).restore({begin, begin + size});
        *branch = handle.release();
    });
}

alora_status alora_context_decode(alora_context * context, alora_error ** error) {
    return call(error, [&] { of(context).decode(); });
}

alora_status alora_context_cancel(alora_context * context, alora_error ** error) {
    return call(error, [&] { of(context).cancel(); });
}

alora_status alora_context_resume(alora_context * context, alora_error ** error) {
    return call(error, [&] { of(context).resume(); });
}

alora_status alora_context_set_interrupt(alora_context * context, alora_interrupt_callback interrupt, void * user_data,
                                         alora_error ** error) {
    return call(error, [&] {
        if (interrupt == nullptr) {
            of(context).set_interrupt({});
        } else {
            of(context).set_interrupt([interrupt, user_data] { return interrupt(user_data) != ALORA_GO_ON; });
        }
    });
}

alora_status alora_context_close(alora_context * context, alora_error ** error) {
    return call(error, [&] { of(context).close(); });
}
