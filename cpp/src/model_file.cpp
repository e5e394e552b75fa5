#include "model_file.hpp"

#include "alora/error.hpp"
#include "text.hpp"

#include "ggml.h"
#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <map>
#include <memory>
#include <sstream>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace alora {

namespace {

using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;
using Tensors = std::unique_ptr<ggml_context, decltype(&ggml_free)>;

// FNV-1a, byte by byte.
class Digest {
public:
    void add(const void * data, size_t size) {
        const auto * bytes = static_cast<const uint8_t *>(data);
        for (size_t i = 0; i < size; ++i) {
            sum_ = (sum_ ^ bytes[i]) * 1099511628211ULL;
        }
    }
    void add_sized(std::string_view text) {
        const uint64_t size = text.size();
        add(&size, sizeof(size));
        add(text.data(), text.size());
    }
    std::string text() const {
        std::ostringstream out;
        out << std::hex << std::setw(16) << std::setfill('0') << sum_;
        return out.str();
    }

private:
    uint64_t sum_ = 14695981039346656037ULL;
};

// The index of an array of that type, -1 if there is none.
int64_t find_array(const gguf_context & gguf, const char * key, gguf_type type) {
    const int64_t id = gguf_find_key(&gguf, key);
    const bool fits = id >= 0 && gguf_get_kv_type(&gguf, id) == GGUF_TYPE_ARRAY && gguf_get_arr_type(&gguf, id) == type;
    return fits ? id : -1;
}

std::string vocabulary_digest(const gguf_context & gguf, const std::string & path) {
    Digest digest;
    std::unordered_set<std::string_view> seen;
    const int64_t tokens = find_array(gguf, "tokenizer.ggml.tokens", GGUF_TYPE_STRING);
    for (size_t i = 0; tokens >= 0 && i < gguf_get_arr_n(&gguf, tokens); ++i) {
        const char * token = gguf_get_arr_str(&gguf, tokens, i);
        if (!seen.insert(token).second) {
            throw ModelLoadError(path + ": its vocabulary has the token '" + as_utf8(token) +
                                 "' twice, the second time as token " + std::to_string(i) +
                                 "; the file is broken or was converted wrongly");
        }
        digest.add_sized(token);
    }
    if (const int64_t types = find_array(gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32); types >= 0) {
        digest.add(gguf_get_arr_data(&gguf, types), gguf_get_arr_n(&gguf, types) * sizeof(int32_t));
    }
    return digest.text();
}

bool is_norm(const ggml_tensor & tensor) {
    constexpr std::string_view end = "_norm.weight";
    const std::string_view name = ggml_get_name(&tensor);
    return tensor.type == GGML_TYPE_F32 && ggml_n_dims(&tensor) == 1 && name.size() > end.size() &&
           name.substr(name.size() - end.size()) == end;
}

bool is_split(const gguf_context & gguf) {
    const int64_t id = gguf_find_key(&gguf, "split.count");
    return id >= 0 && gguf_get_kv_type(&gguf, id) == GGUF_TYPE_UINT16 && gguf_get_val_u16(&gguf, id) > 1;
}

std::optional<std::string> weights_digest(const gguf_context & gguf, ggml_context & tensors, const std::string & path) {
    std::map<std::string, const ggml_tensor *> norms; // by name: converters differ in their order
    for (ggml_tensor * tensor = ggml_get_first_tensor(&tensors); tensor != nullptr;
         tensor = ggml_get_next_tensor(&tensors, tensor)) {
        if (is_norm(*tensor)) {
            norms.emplace(ggml_get_name(tensor), tensor);
        }
    }
    if (norms.empty() || is_split(gguf)) {
        return {};
    }
    Digest digest;
    std::ifstream stream(path, std::ios::binary);
    const uint64_t file_size = std::filesystem::file_size(path);
    for (const auto & [name, tensor] : norms) {
        const int64_t id = gguf_find_tensor(&gguf, name.c_str());
        const uint64_t offset = gguf_get_data_offset(&gguf) + gguf_get_tensor_offset(&gguf, id);
        const uint64_t size = ggml_nbytes(tensor);
        if (offset > file_size || size > file_size - offset) {
            return {};
        }
        std::vector<char> bytes(size);
        stream.seekg(static_cast<std::streamoff>(offset));
        stream.read(bytes.data(), static_cast<std::streamsize>(size));
        digest.add_sized(name);
        digest.add(bytes.data(), bytes.size());
    }
    return stream ? std::optional(digest.text()) : std::nullopt;
}

// llama.cpp reads these as numbers of 32 bits, signed or not.
const int32_t * token_array(const gguf_context & gguf, const char * key, size_t & n) {
    int64_t id = find_array(gguf, key, GGUF_TYPE_INT32);
    id = id >= 0 ? id : find_array(gguf, key, GGUF_TYPE_UINT32);
    n = id < 0 ? 0 : gguf_get_arr_n(&gguf, id);
    return n == 0 ? nullptr : static_cast<const int32_t *>(gguf_get_arr_data(&gguf, id));
}

std::vector<BuiltInAdapter> read_built_in_adapters(const gguf_context & gguf, const std::string & path) {
    size_t n_control = 0;
    size_t n_substitute = 0;
    const int32_t * control = token_array(gguf, "graniteswitch.adapters.token_ids_activate", n_control);
    const int32_t * substitute = token_array(gguf, "graniteswitch.adapters.token_ids_substitute", n_substitute);
    const int64_t tokens = find_array(gguf, "tokenizer.ggml.tokens", GGUF_TYPE_STRING);
    const auto n_vocab = tokens < 0 ? 0 : static_cast<int64_t>(gguf_get_arr_n(&gguf, tokens));
    std::vector<BuiltInAdapter> adapters;
    for (size_t i = 0; i < std::min(n_control, n_substitute); ++i) {
        for (const int32_t token : {control[i], substitute[i]}) {
            if (token < 0 || token >= n_vocab) {
                throw ModelLoadError(path + ": its built-in adapter " + std::to_string(i) + " has the token " +
                                     std::to_string(token) + ", but the vocabulary has " + std::to_string(n_vocab) +
                                     " tokens; the file is broken or was converted wrongly");
            }
        }
        adapters.push_back({control[i], substitute[i]});
    }
    return adapters;
}

std::optional<double> number(const gguf_context & gguf, const std::string & key) {
    const int64_t id = gguf_find_key(&gguf, key.c_str());
    switch (id < 0 ? GGUF_TYPE_STRING : gguf_get_kv_type(&gguf, id)) {
    case GGUF_TYPE_UINT32:
        return gguf_get_val_u32(&gguf, id);
    case GGUF_TYPE_INT32:
        return gguf_get_val_i32(&gguf, id);
    case GGUF_TYPE_FLOAT32:
        return gguf_get_val_f32(&gguf, id);
    default:
        return {};
    }
}

// llama.cpp's graphs of these architectures assert that a head is as wide as its keys, its values and its rotation.
void check_heads(const gguf_context & gguf, const std::string & architecture, const std::string & path) {
    const auto key = [&](const char * name) { return number(gguf, architecture + "." + name); };
    const auto fail = [&](const std::string & what) {
        throw ModelLoadError(path + ": " + what + "; the file is broken or was converted wrongly");
    };
    const double width = key("embedding_length").value_or(0);
    const double heads = key("attention.head_count").value_or(0);
    if (width < 1 || heads < 1 || key("block_count").value_or(0) < 1) {
        fail("expected " + architecture +
             ".embedding_length, attention.head_count and block_count, each one number "
             "from 1 on");
    }
    const double share = std::floor(width / heads);
    const double head = key("attention.key_length").value_or(share);
    if (key("attention.value_length").value_or(share) != head || key("rope.dimension_count").value_or(head) != head) {
        fail("its keys, values and rotations differ in width, which architecture '" + architecture + "' cannot have");
    }
}

// What makes the router read something else than the slot that a control token stands for.
void check_router(const gguf_context & gguf, const std::vector<BuiltInAdapter> & adapters, const std::string & path) {
    constexpr double largest_gain = 1e4; // a key that 16-bit floats hold
    const double gain = number(gguf, "graniteswitch.adapters.router_gain").value_or(1.0);
    if (!(gain >= 1.0 && gain <= largest_gain)) {
        throw ModelLoadError(path + ": graniteswitch.adapters.router_gain is " + std::to_string(gain) +
                             ", expected 1 to 10000; the file is broken or was converted wrongly");
    }
    const double scale = number(gguf, "graniteswitch.logit_scale").value_or(1.0);
    if (!std::isfinite(scale) || scale == 0.0) {
        throw ModelLoadError(path + ": graniteswitch.logit_scale is " + std::to_string(scale) +
                             ", which leaves no logits; the file is broken or was converted wrongly");
    }
    std::unordered_set<Token> seen;
    for (const BuiltInAdapter & one : adapters) {
        if (!seen.insert(one.control_token).second || one.control_token == one.substitute_token) {
            throw ModelLoadError(path + ": token " + std::to_string(one.control_token) +
                                 " calls two of its built-in adapters, or is its own substitute; the file is broken or "
                                 "was converted wrongly");
        }
    }
}

std::string architecture_of(const gguf_context & gguf) {
    const int64_t id = gguf_find_key(&gguf, "general.architecture");
    return id < 0 || gguf_get_kv_type(&gguf, id) != GGUF_TYPE_STRING ? "" : gguf_get_val_str(&gguf, id);
}

// `checks`: whether to refuse what llama.cpp cannot stand.
std::optional<ModelFile> read(const std::string & path, bool checks) {
    ggml_context * raw = nullptr;
    const Gguf gguf(gguf_init_from_file(path.c_str(), {true, &raw}), gguf_free);
    const Tensors tensors(raw, ggml_free);
    if (!gguf) {
        return {};
    }
    std::string vocabulary = vocabulary_digest(*gguf, path);
    ModelFile file{{std::move(vocabulary), weights_digest(*gguf, *tensors, path)}, {}};
    const std::string architecture = architecture_of(*gguf);
    if (checks && (architecture == "granite" || architecture == "graniteswitch")) {
        check_heads(*gguf, architecture, path);
    }
    if (checks && architecture == "graniteswitch") {
        file.built_in_adapters = read_built_in_adapters(*gguf, path);
        check_router(*gguf, file.built_in_adapters, path);
    }
    return file;
}

} // namespace

ModelFile read_model_file(const std::string & path) {
    return read(path, true).value_or(ModelFile());
}

Fingerprints read_fingerprints(const std::string & path) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) {
        throw ModelLoadError(path + ": no such file; expected a GGUF model");
    }
    std::optional<ModelFile> found = read(path, false);
    if (!found) {
        throw ModelLoadError(path + ": not a complete GGUF file; download or convert the model again");
    }
    return std::move(found->fingerprints);
}

} // namespace alora
