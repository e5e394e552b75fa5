#include "process.hpp"

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace alora {

int process_id() {
#if defined(_WIN32)
    return 0;
#else
    return getpid();
#endif
}

} // namespace alora
