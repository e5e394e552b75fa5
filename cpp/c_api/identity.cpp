#include "alora/identity.hpp"

#include "structures.hpp"

#include <string>
#include <vector>

using namespace alora::c;

namespace {

void put(const std::string & digits, char * into, size_t size) {
    into[digits.copy(into, size - 1)] = '\0';
}

} // namespace

alora_status alora_read_fingerprints(const char * path, alora_fingerprints * fingerprints, size_t fingerprints_size,
                                     alora_error ** error) {
    return call(error, [&] {
        const alora::Fingerprints read = alora::read_fingerprints(&given(path, "path"));
        alora_fingerprints known = {};
        put(read.vocabulary, known.vocabulary, sizeof(known.vocabulary));
        put(read.weights.value_or(""), known.weights, sizeof(known.weights));
        write_info(known, fingerprints, fingerprints_size);
    });
}

alora_status alora_names_match(const char * base, const char * const * names, size_t n_names, bool * match,
                               alora_error ** error) {
    return call(error, [&] {
        cleared(match, "match");
        std::vector<std::string> known;
        known.reserve(n_names);
        for (size_t i = 0; i < n_names; ++i) {
            known.emplace_back(&given((&given(names, "names"))[i], "name"));
        }
        *match = alora::names_match(&given(base, "base"), known);
    });
}
