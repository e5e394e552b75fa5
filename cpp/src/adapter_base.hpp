// Whether a model is the base that an adapter was made for.
#pragma once

#include "adapter_file.hpp"

#include <string>

namespace alora {

// Throws AdapterMismatchError where the model's weights, or else its name, or its vocabulary are others.
void check_base(const std::string & path, const AdapterFile & file, const Model & model);

} // namespace alora
