// Which kernels compute on the processor. A build for one machine has them linked in. A wheel has several variants,
// each a library in the folder `kernels` beside the core's own; the best that the processor can run is taken when the
// first model is loaded.
#pragma once

#include <string>
#include <vector>

namespace alora {

struct CpuVariant {
    std::string name;
    std::vector<std::string> needs; // instruction sets, as cpu_features() spells them
    std::string path;               // of its library, UTF-8; empty where it is linked in
};

struct ChosenCpuVariant {
    std::string name;
    // Better ones that could not be loaded: which, and why.
    std::vector<std::string> passed_over;
};

// The instruction sets, of those that make a difference here, that this processor has and the system lets programs use,
// in ggml's spelling. Empty on kinds of processors for which no variants are made.
std::vector<std::string> cpu_features();

// What this build has, the most demanding last.
std::vector<CpuVariant> cpu_variants();

// The variant that computes in this process; chosen by the first call, or by the first model that is loaded. The
// variable ALORA_CPU_VARIANT names another one, for tests and reports of errors. Throws BackendError where it names
// none that there is and that the processor can run, or where no variant can be loaded. Any thread may call it.
ChosenCpuVariant chosen_cpu_variant();

// Physical cores that this process may use, as many as a context has threads by default: two threads on one core only
// get in each other's way here.
int n_physical_cores();

} // namespace alora
