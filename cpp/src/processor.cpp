#include "alora/processor.hpp"

#include "alora/error.hpp"
#include "log.hpp"

#if defined(ALORA_CPU_VARIANTS)
#include "cpu_variant.h"
#endif

#include "ggml-backend.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <optional>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace alora {

namespace {

struct BuiltVariant {
    const char * name;
    std::vector<std::string> needs;
    const char * suffix;
};

const std::vector<BuiltVariant> & built_variants() {
    static const std::vector<BuiltVariant> built = {
#include "cpu_variants.inc"
    };
    return built;
}

// Of the library or program that this code is in: never the working directory, never a search path.
std::filesystem::path own_folder() {
    const void * here = reinterpret_cast<const void *>(&own_folder);
#if defined(_WIN32)
    HMODULE library = nullptr;
    std::wstring name(32768, L'\0'); // the longest that Windows has
    if (GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                           static_cast<LPCWSTR>(here), &library) == 0) {
        throw BackendError("Windows does not say where this library lies (error " + std::to_string(GetLastError()) +
                           ")");
    }
    name.resize(GetModuleFileNameW(library, name.data(), static_cast<DWORD>(name.size())));
    return std::filesystem::path(name).parent_path();
#else
    Dl_info found{};
    if (dladdr(here, &found) == 0 || found.dli_fname == nullptr) {
        throw BackendError("the system does not say where this library lies");
    }
    return std::filesystem::absolute(found.dli_fname).parent_path();
#endif
}

std::string listed(const std::vector<std::string> & words) {
    std::string text;
    for (const std::string & word : words) {
        text += (text.empty() ? "" : ", ") + word;
    }
    return text;
}

std::vector<std::string> missing(const CpuVariant & variant, const std::vector<std::string> & features) {
    std::vector<std::string> absent;
    for (const std::string & need : variant.needs) {
        if (std::find(features.begin(), features.end(), need) == features.end()) {
            absent.push_back(need);
        }
    }
    return absent;
}

// What is wrong with it, or nothing: then it is loaded.
std::string load(const CpuVariant & variant) {
    if (variant.path.empty()) {
        return {};
    }
    if (!std::filesystem::exists(std::filesystem::u8path(variant.path))) {
        return variant.path + " is not there";
    }
#if defined(ALORA_CPU_VARIANTS)
    const std::string error = graph::load_cpu_variant(variant.path);
    return error.empty() ? error : variant.path + " cannot be loaded: " + error;
#else
    return {};
#endif
}

ChosenCpuVariant choose_named(const std::string & name, const std::vector<CpuVariant> & variants) {
    const auto found =
        std::find_if(variants.begin(), variants.end(), [&](const CpuVariant & one) { return one.name == name; });
    if (found == variants.end()) {
        std::vector<std::string> names;
        names.reserve(variants.size());
        for (const CpuVariant & one : variants) {
            names.push_back(one.name);
        }
        throw BackendError("ALORA_CPU_VARIANT is '" + name + "', but this build has " + listed(names) +
                           "; name one of these, or unset it");
    }
    const std::vector<std::string> absent = missing(*found, cpu_features());
    if (!absent.empty()) {
        throw BackendError("ALORA_CPU_VARIANT is '" + name + "', which needs " + listed(absent) +
                           ": this processor has not; unset it, and the best that it can run is taken");
    }
    const std::string error = load(*found);
    if (!error.empty()) {
        throw BackendError("ALORA_CPU_VARIANT is '" + name + "', but " + error + "; install alora_cpp again");
    }
    return {found->name, {}};
}

ChosenCpuVariant choose_best(const std::vector<CpuVariant> & variants) {
    const std::vector<std::string> features = cpu_features();
    std::vector<std::string> passed_over;
    for (auto variant = variants.rbegin(); variant != variants.rend(); ++variant) {
        if (!missing(*variant, features).empty()) {
            continue;
        }
        const std::string error = load(*variant);
        if (error.empty()) {
            return {variant->name, passed_over};
        }
        passed_over.push_back("CPU variant " + variant->name + ": " + error);
    }
    throw BackendError("none of this build's CPU variants can be used: " + listed(passed_over) +
                       "; install alora_cpp again");
}

} // namespace

std::vector<CpuVariant> cpu_variants() {
    std::vector<CpuVariant> variants;
    for (const BuiltVariant & built : built_variants()) {
        std::string path;
        if (*built.suffix != '\0') {
            path =
                (own_folder() / ALORA_KERNELS / (std::string("libalora_cpu_") + built.name + built.suffix)).u8string();
        }
        variants.push_back({built.name, built.needs, path});
    }
    return variants;
}

ChosenCpuVariant chosen_cpu_variant() {
    static std::mutex mutex;
    static std::optional<ChosenCpuVariant> chosen;
    const std::lock_guard<std::mutex> lock(mutex);
    if (!chosen) {
        take_logs();
        const char * named = std::getenv("ALORA_CPU_VARIANT");
        const std::vector<CpuVariant> variants = cpu_variants();
        chosen = named != nullptr && *named != '\0' ? choose_named(named, variants) : choose_best(variants);
    }
    return *chosen;
}

} // namespace alora
