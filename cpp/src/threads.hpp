// How many threads to compute on.
#pragma once

namespace alora {

// Physical cores that this process may use: two threads on one core only get in each other's way here.
int n_physical_cores();

} // namespace alora
