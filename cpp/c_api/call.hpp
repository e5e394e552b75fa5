// What the files of the C interface share: every call runs within call(), which lets nothing out but a status.
#pragma once

#include "alora.h"
#include "alora/error.hpp"

#include <string>

namespace alora::c {

// The status of the exception that is being handled; `error`, where there is one, becomes its object.
alora_status failed(alora_error ** error) noexcept;

template <typename Work>
alora_status call(alora_error ** error, const Work & work) noexcept {
    if (error != nullptr) {
        *error = nullptr;
    }
    try {
        work();
        return ALORA_OK;
    } catch (...) {
        return failed(error);
    }
}

// An argument that must not be NULL.
template <typename T>
T & given(T * pointer, const char * name) {
    if (pointer == nullptr) {
        throw ArgumentError(std::string(name) + " is NULL; expected a pointer to it");
    }
    return *pointer;
}

// An output, empty until the call has succeeded.
template <typename T>
T & cleared(T * output, const char * name) {
    given(output, name) = T();
    return *output;
}

} // namespace alora::c
