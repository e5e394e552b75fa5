#include "alora/error.hpp"

#include "call.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

struct alora_error {
    alora_status status = ALORA_OK;
    std::string message;
};

namespace alora::c {

namespace {

// Where there is no memory left for an error, there is this one. It is never freed.
alora_error & out_of_memory() noexcept {
    static alora_error error = {ALORA_ERROR_OUT_OF_MEMORY, {}};
    return error;
}

template <typename Error>
bool is(const AloraError & error) {
    return dynamic_cast<const Error *>(&error) != nullptr;
}

struct Kind {
    bool (*matches)(const AloraError &);
    alora_status status;
};

// Derived classes before their bases.
constexpr std::array<Kind, 11> kinds = {{
    {is<AdapterMismatchError>, ALORA_ERROR_ADAPTER_MISMATCH},
    {is<InvocationNotFoundError>, ALORA_ERROR_INVOCATION_NOT_FOUND},
    {is<AdapterError>, ALORA_ERROR_ADAPTER},
    {is<ModelLoadError>, ALORA_ERROR_MODEL_LOAD},
    {is<ContextFullError>, ALORA_ERROR_CONTEXT_FULL},
    {is<PositionError>, ALORA_ERROR_POSITION},
    {is<TokenError>, ALORA_ERROR_TOKEN},
    {is<ArgumentError>, ALORA_ERROR_ARGUMENT},
    {is<ClosedError>, ALORA_ERROR_CLOSED},
    {is<Cancelled>, ALORA_ERROR_CANCELLED},
    {is<BackendError>, ALORA_ERROR_BACKEND},
}};

alora_status status_of(const AloraError & error) {
    const auto * const kind =
        std::find_if(kinds.begin(), kinds.end(), [&](const Kind & one) { return one.matches(error); });
    return kind == kinds.end() ? ALORA_ERROR_UNEXPECTED : kind->status;
}

} // namespace

alora_status failed(alora_error ** error) noexcept {
    alora_status status = ALORA_ERROR_UNEXPECTED;
    try {
        std::string message;
        try {
            throw;
        } catch (const AloraError & caught) {
            status = status_of(caught);
            message = caught.what();
        } catch (const std::bad_alloc &) {
            status = ALORA_ERROR_OUT_OF_MEMORY;
        } catch (const std::length_error &) {
            status = ALORA_ERROR_OUT_OF_MEMORY;
        } catch (const std::exception & caught) {
            message = std::string("unexpected: ") + caught.what();
        } catch (...) {
            message = "unexpected: something was thrown that is no std::exception";
        }
        if (error != nullptr) {
            *error =
                status == ALORA_ERROR_OUT_OF_MEMORY ? &out_of_memory() : new alora_error{status, std::move(message)};
        }
        return status;
    } catch (...) { // no memory for the error's text
        if (error != nullptr) {
            *error = &out_of_memory();
        }
        return ALORA_ERROR_OUT_OF_MEMORY;
    }
}

} // namespace alora::c

alora_status alora_error_status(const alora_error * error) {
    return error == nullptr ? ALORA_OK : error->status;
}

const char * alora_error_message(const alora_error * error) {
    if (error == nullptr) {
        return "";
    }
    return error->status == ALORA_ERROR_OUT_OF_MEMORY ? "out of memory; close branches or contexts, or free models"
                                                      : error->message.c_str();
}

void alora_error_free(alora_error * error) {
    if (error != &alora::c::out_of_memory()) {
        delete error;
    }
}
