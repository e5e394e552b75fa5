#include "model_file.hpp"

#include "alora/error.hpp"
#include "text.hpp"

#include "gguf.h"

#include <memory>
#include <string_view>
#include <unordered_set>

namespace alora {

void check_model_file(const std::string & path) {
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(gguf_init_from_file(path.c_str(), {true, nullptr}),
                                                                   gguf_free);
    if (!gguf) {
        return;
    }
    const int64_t tokens = gguf_find_key(gguf.get(), "tokenizer.ggml.tokens");
    if (tokens < 0 || gguf_get_kv_type(gguf.get(), tokens) != GGUF_TYPE_ARRAY ||
        gguf_get_arr_type(gguf.get(), tokens) != GGUF_TYPE_STRING) {
        return;
    }
    std::unordered_set<std::string_view> seen;
    for (size_t i = 0; i < gguf_get_arr_n(gguf.get(), tokens); ++i) {
        const char * token = gguf_get_arr_str(gguf.get(), tokens, i);
        if (!seen.insert(token).second) {
            throw ModelLoadError(path + ": its vocabulary has the token '" + as_utf8(token) +
                                 "' twice, the second time as token " + std::to_string(i) +
                                 "; the file is broken or was converted wrongly");
        }
    }
}

} // namespace alora
