// A file's keys and values, as the C interface asks for them.
#pragma once

#include "call.hpp"

#include <iterator>
#include <map>
#include <string>

namespace alora::c {

inline void check_index(size_t index, size_t size, const char * what) {
    if (index >= size) {
        throw ArgumentError("there are " + std::to_string(size) + " " + what + ", counted from 0; there is no number " +
                            std::to_string(index));
    }
}

// NULL where there is no such key.
inline const char * value_of(const std::map<std::string, std::string> & metadata, const char * key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? nullptr : found->second.c_str();
}

inline void entry_at(const std::map<std::string, std::string> & metadata, size_t index, const char ** key,
                     const char ** value) {
    cleared(key, "key");
    cleared(value, "value");
    check_index(index, metadata.size(), "keys");
    const auto entry = std::next(metadata.begin(), static_cast<std::ptrdiff_t>(index));
    *key = entry->first.c_str();
    *value = entry->second.c_str();
}

} // namespace alora::c
