// Threads to compute on: how many, and whether they are there.
#pragma once

namespace alora {

// Physical cores that this process may use: two threads on one core only get in each other's way here.
int n_physical_cores();

// Tells a process from those it was forked from, whose threads it does not have; 0 where there is no forking.
int process_id();

} // namespace alora
