#include "heap.hpp"

#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace alora {

void trim_heap() noexcept {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

} // namespace alora
