// What llama.cpp and ggml have to say. Nothing is printed: without a sink it is dropped.
#pragma once

#include "alora/export.h"

#include <functional>
#include <string>

namespace alora {

enum class LogLevel { debug = 1, info = 2, warning = 3, error = 4 };

using LogSink = std::function<void(LogLevel, const std::string &)>;

// Replaces the sink of the whole process; an empty one drops everything. Called from any thread that computes.
ALORA_API void set_log_sink(LogSink sink);

} // namespace alora
