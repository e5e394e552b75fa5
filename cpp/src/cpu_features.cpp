#include "alora/processor.hpp"

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#define ALORA_X86_64
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace alora {

#if defined(ALORA_X86_64)

namespace {

struct Registers {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero for a leaf that the processor does not have.
Registers cpuid(uint32_t leaf, uint32_t subleaf) {
    Registers found;
#if defined(_MSC_VER)
    int highest[4];
    __cpuid(highest, 0);
    if (leaf <= static_cast<uint32_t>(highest[0])) {
        int words[4];
        __cpuidex(words, static_cast<int>(leaf), static_cast<int>(subleaf));
        found = {static_cast<uint32_t>(words[0]), static_cast<uint32_t>(words[1]), static_cast<uint32_t>(words[2]),
                 static_cast<uint32_t>(words[3])};
    }
#else
    __get_cpuid_count(leaf, subleaf, &found.eax, &found.ebx, &found.ecx, &found.edx);
#endif
    return found;
}

// Which registers the system saves when it switches threads: the others are not to be used, whatever the processor has.
uint64_t saved_state() {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    uint32_t low = 0;
    uint32_t high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<uint64_t>(high) << 32U) | low;
#endif
}

bool bit(uint32_t word, unsigned position) {
    return ((word >> position) & 1U) != 0;
}

} // namespace

std::vector<std::string> cpu_features() {
    constexpr uint64_t ymm = 0x6;       // SSE and AVX registers
    constexpr uint64_t zmm = 0xe6;      // and the masks and halves of AVX-512
    constexpr uint64_t tiles = 0x60000; // AMX
    const Registers basic = cpuid(1, 0);
    const Registers extended = cpuid(7, 0);
    const Registers more = extended.eax >= 1 ? cpuid(7, 1) : Registers{};
    const uint64_t saved = bit(basic.ecx, 27) ? saved_state() : 0;
    const bool avx = (saved & ymm) == ymm;
    const bool avx512 = (saved & zmm) == zmm;
    const bool amx = (saved & tiles) == tiles;

    std::vector<std::string> found;
    const auto add = [&found](const char * name, bool there) {
        if (there) {
            found.emplace_back(name);
        }
    };
    // Compilers that may use SSE4.2 also use POPCNT.
    add("SSE42", bit(basic.ecx, 20) && bit(basic.ecx, 23));
    add("AVX", avx && bit(basic.ecx, 28));
    add("F16C", avx && bit(basic.ecx, 29));
    add("FMA", avx && bit(basic.ecx, 12));
    add("AVX2", avx && bit(extended.ebx, 5));
    add("BMI2", bit(extended.ebx, 8));
    add("AVX_VNNI", avx && bit(more.eax, 4));
    // F, DQ, CD, BW and VL
    add("AVX512", avx512 && bit(extended.ebx, 16) && bit(extended.ebx, 17) && bit(extended.ebx, 28) &&
                      bit(extended.ebx, 30) && bit(extended.ebx, 31));
    add("AVX512_VBMI", avx512 && bit(extended.ecx, 1));
    add("AVX512_VNNI", avx512 && bit(extended.ecx, 11));
    add("AVX512_BF16", avx512 && bit(more.eax, 5));
    add("AMX_TILE", amx && bit(extended.edx, 24));
    add("AMX_INT8", amx && bit(extended.edx, 25));
    return found;
}

#elif defined(__aarch64__) && defined(__linux__)

std::vector<std::string> cpu_features() {
    const unsigned long first = getauxval(AT_HWCAP);
    const unsigned long second = getauxval(AT_HWCAP2);
    std::vector<std::string> found;
    // Bits of the kernel's interface; older headers do not have all their names.
    const auto add = [&found](const char * name, unsigned long word, unsigned position) {
        if (((word >> position) & 1UL) != 0) {
            found.emplace_back(name);
        }
    };
    add("DOTPROD", first, 20);
    add("FP16_VECTOR_ARITHMETIC", first, 10);
    add("SVE", first, 22);
    add("MATMUL_INT8", second, 13);
    add("SVE2", second, 1);
    return found;
}

#elif defined(__aarch64__) && defined(__APPLE__)

std::vector<std::string> cpu_features() {
    std::vector<std::string> found;
    const auto add = [&found](const char * name, const char * key) {
        int there = 0;
        size_t size = sizeof(there);
        if (sysctlbyname(key, &there, &size, nullptr, 0) == 0 && there != 0) {
            found.emplace_back(name);
        }
    };
    add("DOTPROD", "hw.optional.arm.FEAT_DotProd");
    add("FP16_VECTOR_ARITHMETIC", "hw.optional.arm.FEAT_FP16");
    add("MATMUL_INT8", "hw.optional.arm.FEAT_I8MM");
    return found;
}

#else

std::vector<std::string> cpu_features() {
    return {};
}

#endif

} // namespace alora
