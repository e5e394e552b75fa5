// What the C library keeps of freed memory.
#pragma once

namespace alora {

// Gives freed memory back to the system, where the C library would keep it for the next one who asks. For after a model
// has gone: glibc keeps blocks of up to 32 MiB, which are the buffers of small models and their contexts.
void trim_heap() noexcept;

} // namespace alora
