#include "alora/log.hpp"

#include "call.hpp"

alora_status alora_set_log_sink(alora_log_callback sink, void * user_data, alora_error ** error) {
    return alora::c::call(error, [&] {
        if (sink == nullptr) {
            alora::set_log_sink({});
            return;
        }
        alora::set_log_sink([sink, user_data](alora::LogLevel level, const std::string & text) {
            sink(static_cast<alora_log_level>(level), text.c_str(), user_data);
        });
    });
}
