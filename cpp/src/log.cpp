#include "log.hpp"

#include "alora/processor.hpp"

#include "llama.h"

#include <memory>
#include <mutex>
#include <utility>

namespace alora {

namespace {

std::mutex sink_mutex;
std::shared_ptr<LogSink> current_sink;
thread_local std::string first_error;
// GGML_LOG_LEVEL_CONT continues a line without naming its level again.
thread_local LogLevel last_level = LogLevel::info;

LogLevel level_of(ggml_log_level level) {
    switch (level) {
    case GGML_LOG_LEVEL_DEBUG:
        return LogLevel::debug;
    case GGML_LOG_LEVEL_WARN:
        return LogLevel::warning;
    case GGML_LOG_LEVEL_ERROR:
        return LogLevel::error;
    case GGML_LOG_LEVEL_CONT:
        return last_level;
    default:
        return LogLevel::info;
    }
}

std::string without_newline(const char * text) {
    std::string line = text;
    while (!line.empty() && line.back() == '\n') {
        line.pop_back();
    }
    return line;
}

// Called from C: nothing may be thrown out of it.
void on_log(ggml_log_level level, const char * text, void * /*user_data*/) noexcept {
    try {
        last_level = level_of(level);
        // The first of several says what went wrong, the others what that led to.
        if (last_level == LogLevel::error && first_error.empty()) {
            first_error = without_newline(text);
        }
        std::shared_ptr<LogSink> sink;
        {
            const std::lock_guard<std::mutex> lock(sink_mutex);
            sink = current_sink;
        }
        if (sink) {
            (*sink)(last_level, text);
        }
    } catch (...) { // NOLINT(bugprone-empty-catch): a log line is not worth the caller's work
    }
}

} // namespace

void set_log_sink(LogSink sink) {
    auto shared = sink ? std::make_shared<LogSink>(std::move(sink)) : nullptr;
    const std::lock_guard<std::mutex> lock(sink_mutex);
    current_sink = std::move(shared);
}

void take_logs() {
    static const bool taken = [] {
        llama_log_set(on_log, nullptr);
        return true;
    }();
    (void)taken;
}

void start_backend() {
    static const bool started = [] {
        take_logs();
        for (const std::string & passed_over : chosen_cpu_variant().passed_over) {
            on_log(GGML_LOG_LEVEL_WARN, (passed_over + "\n").c_str(), nullptr);
        }
        llama_backend_init();
        return true;
    }();
    (void)started;
}

std::string take_error(const std::string & otherwise) {
    std::string taken = std::exchange(first_error, {});
    return taken.empty() ? otherwise : taken;
}

} // namespace alora
