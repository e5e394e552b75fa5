// Structures whose size grows with the versions: what the program knows of them is read and written, and no more.
#pragma once

#include "call.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

namespace alora::c {

inline void check_size(const char * name, size_t size, size_t known) {
    if (size < sizeof(size_t) || size > known) {
        throw ArgumentError(std::string("the size of ") + name + " is " + std::to_string(size) + ", expected up to " +
                            std::to_string(known) + "; pass sizeof(" + name + ") to " + name +
                            "_init(), and do not run with an older library than the program was built with");
    }
}

template <typename Options>
void init_options(Options * options, size_t size, Options defaults, const char * name) {
    given(options, "options");
    check_size(name, size, sizeof(Options));
    defaults.struct_size = size;
    std::memcpy(options, &defaults, size);
}

// The options of a program that may know fewer than we do; the defaults where it gave none.
template <typename Options>
Options read_options(const Options * options, Options defaults, const char * name) {
    if (options != nullptr) {
        check_size(name, options->struct_size, sizeof(Options));
        std::memcpy(&defaults, options, options->struct_size);
    }
    return defaults;
}

// What a newer program asks for beside what we know is zero.
template <typename Info>
void write_info(const Info & known, Info * info, size_t size) {
    given(info, "info");
    std::memset(info, 0, size);
    std::memcpy(info, &known, std::min(size, sizeof(Info)));
}

} // namespace alora::c
