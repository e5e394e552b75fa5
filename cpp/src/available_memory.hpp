// How much memory this process can still get.
#pragma once

#include <cstdint>
#include <string>

namespace alora {

// Bytes that can be had without anything being ended for it: free memory, what the system drops or swaps out by itself,
// and no more than limits on this process or its container leave. The largest number where the system does not say.
// `root` stands before the names of the files that Linux answers in.
uint64_t available_memory(const std::string & root = "");

} // namespace alora
