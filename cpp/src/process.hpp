// Which process this is.
#pragma once

namespace alora {

// Tells a process from those it was forked from, whose threads it does not have; 0 where there is no forking.
int process_id();

} // namespace alora
