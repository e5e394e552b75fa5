// What must hold of a model file before llama.cpp reads it, because llama.cpp would end the process otherwise.
#pragma once

#include <string>

namespace alora {

// Throws ModelLoadError. A file that is no GGUF at all passes: llama.cpp says well what is wrong with it.
void check_model_file(const std::string & path);

} // namespace alora
