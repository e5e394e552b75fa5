// Pages of a mapped model file whose weights have been copied elsewhere.
#pragma once

#include <cstddef>

namespace alora::graph {

// Takes read-only pages of a mapped file out of this process's memory; whoever reads them again gets them again. For
// weights that are repacked for the processor, or moved to another device: without it, both copies stay.
void release_pages(const void * data, size_t size) noexcept;

} // namespace alora::graph
