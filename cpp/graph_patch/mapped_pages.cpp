#include "mapped_pages.h"

#if defined(__unix__) || defined(__APPLE__)
#include <cstdint>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace alora::graph {

#if defined(__unix__) || defined(__APPLE__)

void release_pages(const void * data, size_t size) noexcept {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto start = reinterpret_cast<uintptr_t>(data);
    // A page that other weights have a part of stays.
    const uintptr_t first = (start + page - 1) / page * page;
    const uintptr_t last = (start + size) / page * page;
    if (last > first) {
        madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
    }
}

#else

void release_pages(const void *, size_t) noexcept {}

#endif

} // namespace alora::graph
