#include "mapped_pages.h"

#if defined(__unix__) || defined(__APPLE__)
#include <cstdint>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace alora::graph {

#if defined(__unix__) || defined(__APPLE__)

void release_pages(const void * data, size_t size) noexcept {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    // A page that other weights have a part of stays.
    const size_t before = (page - reinterpret_cast<uintptr_t>(data) % page) % page;
    if (size >= before + page) {
        // POSIX takes no pointer to const; the pages are not written.
        auto * first = const_cast<char *>(static_cast<const char *>(data)) + before; // NOLINT(*-const-cast)
        madvise(first, (size - before) / page * page, MADV_DONTNEED);
    }
}

#else

void release_pages(const void *, size_t) noexcept {}

#endif

} // namespace alora::graph
