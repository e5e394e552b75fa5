// Arrays that go out to the caller, who frees them with alora_free().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace alora::c {

struct Freed {
    void operator()(void * memory) const { std::free(memory); } // NOLINT(cppcoreguidelines-no-malloc)
};

// A copy of `size` bytes and a NUL byte behind them. Never NULL.
inline std::unique_ptr<void, Freed> copied(const void * bytes, size_t size) {
    // NOLINTNEXTLINE(cppcoreguidelines-no-malloc): a program in C frees it
    std::unique_ptr<void, Freed> copy(std::malloc(size + 1));
    if (!copy) {
        throw std::bad_alloc();
    }
    std::copy_n(static_cast<const char *>(bytes), size, static_cast<char *>(copy.get()));
    static_cast<char *>(copy.get())[size] = '\0';
    return copy;
}

// Hands a container's elements out.
template <typename Element, typename Container>
void hand_out(const Container & from, Element ** elements, size_t & n_elements) {
    const size_t n = from.size();
    *elements = static_cast<Element *>(copied(from.data(), n * sizeof(*from.data())).release());
    n_elements = n;
}

} // namespace alora::c
