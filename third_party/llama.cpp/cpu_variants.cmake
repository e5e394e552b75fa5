# ggml's CPU kernels in several libraries, each for another kind of processor; one is chosen when the backend starts.

# What a variant needs, from the least to the most: the last one that the processor can run is taken. Features are spelled
# as ggml spells them; cpp/src/cpu_features.cpp finds out which of them the processor has. A feature that no kernel is
# written for makes no variant of its own.
if(ALORA_CPU_VARIANTS)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(ALORA_CPU_VARIANT_NAMES x64 sse42 avx avx2 avx2_vnni avx512 avx512_vnni)
    set(avx2 SSE42 AVX F16C FMA AVX2 BMI2)
    set(ALORA_CPU_NEEDS_x64)
    set(ALORA_CPU_NEEDS_sse42 SSE42)
    set(ALORA_CPU_NEEDS_avx SSE42 AVX)
    set(ALORA_CPU_NEEDS_avx2 ${avx2})
    set(ALORA_CPU_NEEDS_avx2_vnni ${avx2} AVX_VNNI)
    set(ALORA_CPU_NEEDS_avx512 ${avx2} AVX512)
    set(ALORA_CPU_NEEDS_avx512_vnni ${avx2} AVX512 AVX512_VNNI)
    # Microsoft's compiler has no intrinsics for these.
    if(NOT MSVC)
      list(APPEND ALORA_CPU_VARIANT_NAMES avx512_bf16 amx)
      set(ALORA_CPU_NEEDS_avx512_bf16 ${avx2} AVX512 AVX512_VNNI AVX512_BF16)
      set(ALORA_CPU_NEEDS_amx ${avx2} AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16 AMX_TILE AMX_INT8)
    endif()
  elseif(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(ALORA_CPU_VARIANT_NAMES arm64 fp16 i8mm sve sve2)
    set(fp16 DOTPROD FP16_VECTOR_ARITHMETIC)
    set(ALORA_CPU_NEEDS_arm64)
    set(ALORA_CPU_NEEDS_fp16 ${fp16})
    set(ALORA_CPU_NEEDS_i8mm ${fp16} MATMUL_INT8)
    set(ALORA_CPU_NEEDS_sve ${fp16} SVE MATMUL_INT8)
    set(ALORA_CPU_NEEDS_sve2 ${fp16} SVE MATMUL_INT8 SVE2)
  else()
    message(FATAL_ERROR "ALORA_CPU_VARIANTS is for x86-64 and for aarch64 Linux, not for ${CMAKE_SYSTEM_NAME} on "
      "${CMAKE_SYSTEM_PROCESSOR}: leave it off there")
  endif()
endif()

# The same list for the core.
set(ALORA_CPU_VARIANT_ROWS)
foreach(name IN LISTS ALORA_CPU_VARIANT_NAMES)
  list(TRANSFORM ALORA_CPU_NEEDS_${name} REPLACE "(.+)" "\"\\1\"" OUTPUT_VARIABLE needs)
  list(JOIN needs ", " needs)
  string(APPEND ALORA_CPU_VARIANT_ROWS "    {\"${name}\", {${needs}}, \"${CMAKE_SHARED_MODULE_SUFFIX}\"},\n")
endforeach()
set(ALORA_CPU_NATIVE OFF)
if(ALORA_NATIVE AND NOT ALORA_CPU_VARIANTS AND NOT CMAKE_CROSSCOMPILING)
  set(ALORA_CPU_NATIVE ON)
  set(ALORA_CPU_VARIANT_ROWS "    {\"native\", {}, \"\"},\n")
elseif(NOT ALORA_CPU_VARIANTS)
  set(ALORA_CPU_VARIANT_ROWS "    {\"baseline\", {}, \"\"},\n")
endif()
configure_file("${CMAKE_CURRENT_LIST_DIR}/cpu_variants.inc.in" "${CMAKE_BINARY_DIR}/generated/cpu_variants.inc" @ONLY)

# Called by ggml/src/CMakeLists.txt through the hook patch, in its folder, where these libraries' sources are.
function(alora_add_cpu_variants)
  # With these ggml makes a library of its own of each; other backends stay within the core.
  set(GGML_BACKEND_DL ON)
  set(GGML_CPU_ALL_VARIANTS ON)
  set(graph_patch "${alora_cpp_SOURCE_DIR}/cpp/graph_patch")
  foreach(name IN LISTS ALORA_CPU_VARIANT_NAMES)
    ggml_add_cpu_backend_variant(${name} ${ALORA_CPU_NEEDS_${name}})
    set(variant ggml-cpu-${name})
    target_sources(${variant} PRIVATE "${graph_patch}/cpu_variant_start.cpp")
    target_compile_definitions(${variant} PRIVATE "ALORA_LLAMA_BUILD=\"${ALORA_LLAMA_BUILD}\"")
    # ggml's own check of the processor is not asked, and must not be exported.
    set_target_properties(${variant}-feats PROPERTIES COMPILE_DEFINITIONS GGML_BACKEND_DL)
    set_target_properties(${variant} PROPERTIES
      PREFIX "lib" OUTPUT_NAME "alora_cpu_${name}" LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/kernels")
    if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
      target_link_options(${variant} PRIVATE "-Wl,--version-script=${graph_patch}/cpu_variant.map")
      set_target_properties(${variant} PROPERTIES LINK_DEPENDS "${graph_patch}/cpu_variant.map")
    endif()
  endforeach()
endfunction()
