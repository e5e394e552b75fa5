// The GIL given back while the library works, also when the interpreter ends meanwhile.
//
// A daemon thread that comes back into an interpreter that is gone brings the process down, and one that computes while
// C++ destroys its globals does, too. So once Python ends, work on other threads is cancelled and waited for, and those
// threads stop where they would take the GIL again.
#pragma once

#include <pybind11/pybind11.h>

namespace alora::python {

class WithoutGilScope {
public:
    WithoutGilScope();
    ~WithoutGilScope();
    WithoutGilScope(const WithoutGilScope &) = delete;
    WithoutGilScope & operator=(const WithoutGilScope &) = delete;

private:
    pybind11::gil_scoped_release release_;
};

// Whether the interpreter ends and this thread is another one than that which ends it: it must not take the GIL.
bool is_left_behind() noexcept;

// Has Python call us when it ends, and where it goes on in a forked process.
void watch_the_interpreter();

} // namespace alora::python
