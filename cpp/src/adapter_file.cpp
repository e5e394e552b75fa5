#include "adapter_file.hpp"

#include "alora/error.hpp"
#include "model_handle.hpp"
#include "row_lora.h"
#include "text.hpp"

#include "ggml.h"
#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <set>
#include <utility>

namespace alora {

namespace {

struct GgufDeleter {
    void operator()(gguf_context * context) const { gguf_free(context); }
};
struct GgmlDeleter {
    void operator()(ggml_context * context) const { ggml_free(context); }
};

// An open adapter file: its keys and the shapes of its tensors, no data.
class Reader {
public:
    explicit Reader(std::string path) : path_(std::move(path)) {
        std::error_code ignored;
        if (!std::filesystem::is_regular_file(path_, ignored)) {
            throw AdapterError(path_ + ": no such file; expected a GGUF adapter");
        }
        ggml_context * tensors = nullptr;
        gguf_.reset(gguf_init_from_file(path_.c_str(), {true, &tensors}));
        tensors_.reset(tensors);
        if (!gguf_) {
            fail("not a complete GGUF file; convert the adapter again, or download it again");
        }
    }

    [[noreturn]] void fail(const std::string & what) const { throw AdapterError(path_ + ": " + what); }

    const gguf_context * gguf() const { return gguf_.get(); }
    ggml_context * tensors() const { return tensors_.get(); }
    const std::string & path() const { return path_; }

    // The key's index, -1 if absent; fails if it is there with another type.
    int64_t key(const char * name, gguf_type type) const {
        const int64_t id = gguf_find_key(gguf(), name);
        if (id >= 0 && gguf_get_kv_type(gguf(), id) != type) {
            fail(std::string(name) + " has type " + gguf_type_name(gguf_get_kv_type(gguf(), id)) + ", expected " +
                 gguf_type_name(type));
        }
        return id;
    }

    std::string text(const char * name) const {
        const int64_t id = key(name, GGUF_TYPE_STRING);
        return id < 0 ? "" : as_utf8(gguf_get_val_str(gguf(), id));
    }

private:
    std::string path_;
    std::unique_ptr<gguf_context, GgufDeleter> gguf_;
    std::unique_ptr<ggml_context, GgmlDeleter> tensors_;
};

std::string value_text(const gguf_context * gguf, int64_t id) {
    switch (gguf_get_kv_type(gguf, id)) {
    case GGUF_TYPE_STRING:
        return as_utf8(gguf_get_val_str(gguf, id));
    case GGUF_TYPE_BOOL:
        return gguf_get_val_bool(gguf, id) ? "true" : "false";
    case GGUF_TYPE_UINT32:
        return std::to_string(gguf_get_val_u32(gguf, id));
    case GGUF_TYPE_INT32:
        return std::to_string(gguf_get_val_i32(gguf, id));
    case GGUF_TYPE_UINT64:
        return std::to_string(gguf_get_val_u64(gguf, id));
    case GGUF_TYPE_FLOAT32:
        return std::to_string(gguf_get_val_f32(gguf, id));
    default:
        return std::string("<") + gguf_type_name(gguf_get_kv_type(gguf, id)) + ">";
    }
}

void read_keys(const Reader & reader, const Model & model, AdapterFile & file) {
    const gguf_context * gguf = reader.gguf();
    const std::string type = reader.text("general.type");
    if (type != "adapter") {
        reader.fail("general.type is '" + type + "', expected 'adapter'; is this a model?");
    }
    if (const std::string kind = reader.text("adapter.type"); kind != "lora") {
        reader.fail("adapter.type is '" + kind + "', expected 'lora'");
    }
    if (!model.built_in_adapters().empty()) {
        throw AdapterMismatchError(reader.path() + ": the model " + model.path() +
                                   " has its adapters built in and takes none from files; take it apart (alora-cli "
                                   "convert) and load the adapter for the base that comes out");
    }
    const std::string architecture = reader.text("general.architecture");
    if (architecture != model.architecture()) {
        throw AdapterMismatchError(reader.path() + ": made for architecture '" + architecture + "', but the model " +
                                   model.path() + " is '" + model.architecture() + "'; load it with its own base");
    }
    const int64_t alpha = reader.key("adapter.lora.alpha", GGUF_TYPE_FLOAT32);
    file.alpha = alpha < 0 ? 0.0f : gguf_get_val_f32(gguf, alpha);
    if (!std::isfinite(file.alpha)) {
        reader.fail("adapter.lora.alpha is not a finite number");
    }
    if (const int64_t offset = reader.key("alora.activation_offset", GGUF_TYPE_UINT32); offset >= 0) {
        file.activation_offset = static_cast<int>(gguf_get_val_u32(gguf, offset));
    }
    file.name = reader.text("general.name");
    if (file.name.empty()) {
        file.name = std::filesystem::path(reader.path()).stem().string();
    }
    if (const int64_t io = reader.key("alora.io_yaml", GGUF_TYPE_STRING); io >= 0) {
        file.io_yaml = as_utf8(gguf_get_val_str(gguf, io));
    }
    file.base.name = reader.text("general.base_model.0.name");
    file.base.published = !reader.text("general.base_model.0.organization").empty() ||
                          !reader.text("general.base_model.0.repo_url").empty();
    file.base.weights = reader.text("alora.base.weights");
    file.base.vocabulary = reader.text("alora.base.vocabulary");
    for (int64_t id = 0; id < gguf_get_n_kv(gguf); ++id) {
        if (gguf_get_kv_type(gguf, id) != GGUF_TYPE_ARRAY) {
            file.metadata[as_utf8(gguf_get_key(gguf, id))] = value_text(gguf, id);
        }
    }
}

void read_invocation(const Reader & reader, const Model & model, AdapterFile & file) {
    const char * name = "adapter.alora.invocation_tokens";
    const int64_t id = reader.key(name, GGUF_TYPE_ARRAY);
    if (id < 0) {
        return;
    }
    if (const gguf_type type = gguf_get_arr_type(reader.gguf(), id); type != GGUF_TYPE_UINT32) {
        reader.fail(std::string(name) + " is an array of " + gguf_type_name(type) + ", expected uint32");
    }
    const auto * values = static_cast<const uint32_t *>(gguf_get_arr_data(reader.gguf(), id));
    for (size_t i = 0; i < gguf_get_arr_n(reader.gguf(), id); ++i) {
        if (values[i] >= static_cast<uint32_t>(model.n_vocab())) {
            throw AdapterMismatchError(reader.path() + ": invocation token " + std::to_string(values[i]) +
                                       " is not in the model's vocabulary of " + std::to_string(model.n_vocab()) +
                                       " tokens; it was made for another base");
        }
        file.invocation_tokens.push_back(static_cast<Token>(values[i]));
    }
    if (static_cast<size_t>(file.activation_offset) > file.invocation_tokens.size()) {
        reader.fail("alora.activation_offset is " + std::to_string(file.activation_offset) + ", but there are only " +
                    std::to_string(file.invocation_tokens.size()) + " invocation tokens");
    }
}

void read_invocation_pieces(const Reader & reader, AdapterFile & file) {
    const char * name = "alora.invocation_pieces";
    const int64_t id = reader.key(name, GGUF_TYPE_ARRAY);
    if (id < 0) {
        return;
    }
    const size_t n = file.invocation_tokens.size();
    if (gguf_get_arr_type(reader.gguf(), id) != GGUF_TYPE_STRING || gguf_get_arr_n(reader.gguf(), id) != n) {
        reader.fail(std::string(name) + " is no array of " + std::to_string(n) +
                    " texts, one for each invocation token; convert the adapter again");
    }
    for (size_t i = 0; i < n; ++i) {
        file.base.invocation_pieces.emplace_back(gguf_get_arr_str(reader.gguf(), id, i));
    }
}

struct Pair {
    ggml_tensor * a = nullptr;
    ggml_tensor * b = nullptr;
};

std::map<std::string, Pair> pair_tensors(const Reader & reader) {
    std::map<std::string, Pair> pairs;
    for (ggml_tensor * tensor = ggml_get_first_tensor(reader.tensors()); tensor != nullptr;
         tensor = ggml_get_next_tensor(reader.tensors(), tensor)) {
        const std::string name = ggml_get_name(tensor);
        const size_t dot = name.rfind('.');
        const std::string base = name.substr(0, dot);
        const std::string half = dot == std::string::npos ? "" : name.substr(dot);
        if (half == ".lora_a") {
            pairs[base].a = tensor;
        } else if (half == ".lora_b") {
            pairs[base].b = tensor;
        } else {
            reader.fail("tensor '" + name + "' is neither a .lora_a nor a .lora_b; only plain LoRA weights can be run");
        }
    }
    if (pairs.empty()) {
        reader.fail("it holds no LoRA weights");
    }
    return pairs;
}

std::string shape(const ggml_tensor & tensor) {
    return "[" + std::to_string(tensor.ne[0]) + ", " + std::to_string(tensor.ne[1]) + "]";
}

void check_pair(const Reader & reader, const Model & model, const std::string & name, const Pair & pair) {
    if (pair.a == nullptr || pair.b == nullptr) {
        reader.fail("'" + name + "' has only one of lora_a and lora_b; the file is incomplete");
    }
    if (!graph::is_adaptable(name)) {
        reader.fail("it adapts '" + name +
                    "', but only the q, k, v, o, gate, up and down projections can be adapted row by row; "
                    "train it without embeddings, experts and output head");
    }
    const ggml_tensor * base = graph::base_weight(*model.handle().model, name);
    if (base == nullptr) {
        throw AdapterMismatchError(reader.path() + ": it adapts '" + name + "', which the model " + model.path() +
                                   " does not have; it was made for another base");
    }
    if (pair.a->ne[0] != base->ne[0] || pair.b->ne[1] != base->ne[1]) {
        throw AdapterMismatchError(reader.path() + ": '" + name + "' goes from " + std::to_string(pair.a->ne[0]) +
                                   " to " + std::to_string(pair.b->ne[1]) + " values, but the model's is " +
                                   shape(*base) + "; it was made for another base");
    }
    if (pair.a->ne[1] != pair.b->ne[0] || ggml_n_dims(pair.a) > 2 || ggml_n_dims(pair.b) > 2) {
        reader.fail("'" + name + "' has lora_a " + shape(*pair.a) + " and lora_b " + shape(*pair.b) +
                    ", whose ranks differ");
    }
}

// The data must lie within the file, and be numbers: one NaN would spread through everything it touches. Returns the
// largest of them, 0 where `numbers` is false.
float check_data(const Reader & reader, const ggml_tensor & tensor, std::ifstream & stream, uint64_t file_size,
                 bool numbers) {
    const std::string name = ggml_get_name(&tensor);
    const int64_t id = gguf_find_tensor(reader.gguf(), name.c_str());
    const uint64_t offset = gguf_get_data_offset(reader.gguf()) + gguf_get_tensor_offset(reader.gguf(), id);
    const uint64_t size = ggml_nbytes(&tensor);
    if (offset > file_size || size > file_size - offset) {
        reader.fail("it is cut short: '" + name + "' ends at byte " + std::to_string(offset + size) +
                    ", but the file has " + std::to_string(file_size));
    }
    if (!numbers) {
        return 0.0f;
    }
    std::vector<char> bytes(size);
    stream.seekg(static_cast<std::streamoff>(offset));
    stream.read(bytes.data(), static_cast<std::streamsize>(size));
    const auto n = static_cast<size_t>(ggml_nelements(&tensor));
    std::vector<float> values(n);
    if (tensor.type == GGML_TYPE_F32) {
        std::copy_n(reinterpret_cast<const float *>(bytes.data()), n, values.data()); // NOLINT: raw file data
    } else {
        const ggml_type_traits * traits = ggml_get_type_traits(tensor.type);
        if (traits->to_float == nullptr) {
            reader.fail("'" + name + "' has type " + ggml_type_name(tensor.type) + ", which cannot be run");
        }
        traits->to_float(bytes.data(), values.data(), static_cast<int64_t>(n));
    }
    if (!stream || !std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
        reader.fail("'" + name + "' holds values that are not finite numbers; the training run or the file is broken");
    }
    return std::accumulate(values.begin(), values.end(), 0.0f,
                           [](float largest, float value) { return std::max(largest, std::abs(value)); });
}

} // namespace

AdapterFile read_adapter_file(const std::string & path, const Model & model, bool numbers) {
    const Reader reader(path);
    AdapterFile file;
    read_keys(reader, model, file);
    read_invocation(reader, model, file);
    read_invocation_pieces(reader, file);
    std::ifstream stream(path, std::ios::binary);
    const uint64_t file_size = std::filesystem::file_size(path);
    std::set<std::string> targets;
    for (const auto & [name, pair] : pair_tensors(reader)) {
        check_pair(reader, model, name, pair);
        for (const ggml_tensor * tensor : {pair.a, pair.b}) {
            file.largest = std::max(file.largest, check_data(reader, *tensor, stream, file_size, numbers));
        }
        file.rank = std::max(file.rank, static_cast<int>(pair.a->ne[1]));
        file.size += ggml_nbytes(pair.a) + ggml_nbytes(pair.b);
        const size_t block_end = name.find('.', 4);
        targets.insert(name.substr(block_end + 1, name.rfind('.') - block_end - 1));
    }
    file.targets.assign(targets.begin(), targets.end());
    return file;
}

} // namespace alora
