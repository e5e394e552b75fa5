// GCC 12 finds numbers that were never set in its own header of vector operations.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "tiled_buffer.h"

#include "tiled_product.hpp"

#ifdef ALORA_TILES

#include "ggml-backend-impl.h"
#include "traits.h"

#include <algorithm>
#include <future>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using alora::graph::multiply_tiles;
using alora::graph::tile_outputs;
using alora::graph::tiled_product;

constexpr size_t alignment = 64;
constexpr int64_t most_packing_threads = 4; // more would wait for the disk

// Calls work(begin, end) for shares of `count`, on some threads: packing a large model takes seconds of a processor.
template <typename Work>
void share_out(int64_t count, const Work & work) {
    const int64_t n_shares = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, most_packing_threads);
    std::vector<std::future<void>> others;
    for (int64_t share = 1; share < n_shares; ++share) {
        const int64_t begin = share * count / n_shares;
        const int64_t end = (share + 1) * count / n_shares;
        try {
            others.push_back(std::async(std::launch::async, work, begin, end));
        } catch (const std::system_error &) {
            work(begin, end); // no thread to be had
        }
    }
    work(0, count / n_shares);
}

// What is done with weights of a type.
class tiles_of_type : public ggml::cpu::tensor_traits {
public:
    virtual size_t size(const ggml_tensor & weights) const = 0;
    virtual void pack(const ggml_tensor & weights, const void * from) const = 0;
};

template <typename Tile>
class tiles_of final : public tiles_of_type {
public:
    size_t size(const ggml_tensor & weights) const override {
        return static_cast<size_t>(weights.ne[1] / tile_outputs * n_blocks(weights) * Tile::bytes);
    }

    void pack(const ggml_tensor & weights, const void * from) const override {
        const auto * blocks = static_cast<const typename Tile::block *>(from);
        auto * tiles = static_cast<char *>(weights.data);
        const int64_t n = n_blocks(weights);
        share_out(weights.ne[1] / tile_outputs, [=](int64_t begin, int64_t end) {
            for (int64_t i = begin * n; i < end * n; ++i) { // block after block of a tile's rows
                for (int64_t output = 0; output < tile_outputs; ++output) {
                    const int64_t row = i / n * tile_outputs + output;
                    Tile::pack(tiles + i * Tile::bytes, output, blocks[row * n + i % n]);
                }
            }
        });
    }

    bool work_size(int /*n_threads*/, const ggml_tensor * operation, size_t & size) override {
        size = tiled_product<Tile>(operation).row_bytes();
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * operation) override {
        multiply_tiles<Tile>(params, operation);
        return true;
    }

private:
    static int64_t n_blocks(const ggml_tensor & weights) { return weights.ne[0] / ggml_blck_size(Tile::type); }
};

// Null where weights are of a type or of a size that has no tiles.
tiles_of_type * tiles_for(const ggml_tensor & weights) {
    static tiles_of<alora::graph::tile_q4_K> q4_K;
    static tiles_of<alora::graph::tile_q5_K> q5_K;
    static tiles_of<alora::graph::tile_q6_K> q6_K;
    static tiles_of<alora::graph::tile_q8_0> q8_0;
    if (weights.ne[1] % tile_outputs != 0 || weights.ne[2] * weights.ne[3] != 1) {
        return nullptr;
    }
    switch (weights.type) {
    case GGML_TYPE_Q4_K:
        return &q4_K;
    case GGML_TYPE_Q5_K:
        return &q5_K;
    case GGML_TYPE_Q6_K:
        return &q6_K;
    case GGML_TYPE_Q8_0:
        return &q8_0;
    default:
        return nullptr;
    }
}

bool lies_in_tiles(const ggml_tensor & weights) {
    return weights.buffer != nullptr && weights.buffer->buft == alora_tiled_buffer_type();
}

class tiled_operations final : public ggml::cpu::extra_buffer_type {
public:
    bool supports_op(ggml_backend_dev_t /*device*/, const ggml_tensor * operation) override {
        if (operation->op != GGML_OP_MUL_MAT || !lies_in_tiles(*operation->src[0]) ||
            tiles_for(*operation->src[0]) == nullptr) {
            return false;
        }
        const ggml_tensor & rows = *operation->src[1];
        const bool here = rows.buffer == nullptr || ggml_backend_buft_is_host(rows.buffer->buft);
        return here && rows.type == GGML_TYPE_F32 && rows.nb[0] == sizeof(float) && ggml_is_contiguous(operation);
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * operation) override {
        const bool ours = operation->op == GGML_OP_MUL_MAT && lies_in_tiles(*operation->src[0]);
        return ours ? tiles_for(*operation->src[0]) : nullptr;
    }
};

void set_tensor(ggml_backend_buffer_t /*buffer*/, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor)); // tiles have no place for a part
    tiles_for(*tensor)->pack(*tensor, data);
}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer == nullptr) {
        return nullptr;
    }
    buffer->buft = type;
    buffer->iface.set_tensor = set_tensor;
    buffer->iface.get_tensor = nullptr;
    buffer->iface.cpy_tensor = nullptr;
    return buffer;
}

const char * name_of(ggml_backend_buffer_type_t /*type*/) {
    return "CPU_TILES";
}

size_t alignment_of(ggml_backend_buffer_type_t /*type*/) {
    return alignment;
}

size_t size_of(ggml_backend_buffer_type_t /*type*/, const ggml_tensor * tensor) {
    const tiles_of_type * tiles = tiles_for(*tensor);
    return tiles == nullptr ? ggml_nbytes(tensor) : tiles->size(*tensor);
}

} // namespace

ggml_backend_buffer_type_t alora_tiled_buffer_type() {
    static tiled_operations operations;
    static ggml_backend_buffer_type type = {
        {name_of, allocate, alignment_of, nullptr, size_of, nullptr},
        ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
        &operations,
    };
    return &type;
}

#else

ggml_backend_buffer_type_t alora_tiled_buffer_type() {
    return nullptr;
}

#endif
