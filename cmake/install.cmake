# The shared library with its C and C++ interface, and what `cmake --install` puts beside it for other projects. The
# Python module holds its own copy of everything, so `pip install` builds none of this.
option(ALORA_SHARED "Build the shared library, to be installed with its headers" OFF)
if(NOT ALORA_SHARED)
  return()
endif()

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

file(STRINGS pyproject.toml version_line REGEX "^version = ")
string(REGEX REPLACE ".*\"(.*)\".*" "\\1" ALORA_VERSION "${version_line}")
file(STRINGS cpp/include/alora.h abi_line REGEX "^#define ALORA_ABI_VERSION ")
string(REGEX REPLACE ".* ([0-9]+)$" "\\1" ALORA_ABI_VERSION "${abi_line}")

# The static library is for the Python module and the tests: nothing of it is wanted unless one of these is.
set_target_properties(alora PROPERTIES EXCLUDE_FROM_ALL ON)

file(GLOB c_api_sources CONFIGURE_DEPENDS cpp/c_api/*.cpp)
add_library(alora_shared SHARED ${alora_sources} ${c_api_sources})
target_compile_definitions(alora_shared PRIVATE ALORA_BUILDS_SHARED "ALORA_VERSION=\"${ALORA_VERSION}\"")
target_include_directories(alora_shared
  PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cpp/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
  PRIVATE cpp/src "${CMAKE_BINARY_DIR}/generated")
target_compile_definitions(alora_shared PRIVATE "ALORA_KERNELS=\"alora_cpp/kernels\"")
if(ALORA_CPU_VARIANTS)
  target_compile_definitions(alora_shared PRIVATE ALORA_CPU_VARIANTS)
  foreach(name IN LISTS ALORA_CPU_VARIANT_NAMES)
    add_dependencies(alora_shared ggml-cpu-${name})
    install(TARGETS ggml-cpu-${name} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}/alora_cpp/kernels" COMPONENT development)
  endforeach()
endif()
target_compile_features(alora_shared INTERFACE cxx_std_17)
target_link_libraries(alora_shared PRIVATE llama ${CMAKE_DL_LIBS})
target_compile_options(alora_shared PRIVATE ${ALORA_WARNINGS})
if(MSVC)
  # Private members of exported classes are nobody's business outside.
  target_compile_options(alora_shared PUBLIC /wd4251)
endif()
set_target_properties(alora_shared PROPERTIES
  OUTPUT_NAME alora EXPORT_NAME alora SOVERSION "${ALORA_ABI_VERSION}"
  # On Windows the import library would take the static library's place.
  ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/shared"
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
# ggml and llama.cpp are hidden already, but for what their GPU parts bring along and for instances of the standard
# library's templates: another copy may live in the same process.
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(exports "${PROJECT_SOURCE_DIR}/cmake/exports.map")
  target_link_options(alora_shared PRIVATE "-Wl,--version-script=${exports}" "-Wl,--no-undefined")
  set_target_properties(alora_shared PROPERTIES LINK_DEPENDS "${exports}")
elseif(APPLE)
  set(exports "${PROJECT_SOURCE_DIR}/cmake/exports.txt")
  target_link_options(alora_shared PRIVATE "-Wl,-exported_symbols_list,${exports}")
  set_target_properties(alora_shared PROPERTIES LINK_DEPENDS "${exports}")
endif()

set(config_folder "${CMAKE_INSTALL_LIBDIR}/cmake/alora_cpp")
set(pkgconfig_folder "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
set(made "${CMAKE_CURRENT_BINARY_DIR}/install")
configure_package_config_file(cmake/alora_cppConfig.cmake.in "${made}/alora_cppConfig.cmake"
  INSTALL_DESTINATION "${config_folder}")
# While the version begins with 0, a new minor version may change the C++ interface.
write_basic_package_version_file("${made}/alora_cppConfigVersion.cmake"
  VERSION "${ALORA_VERSION}" COMPATIBILITY SameMinorVersion)
# From where the file lies to the prefix, so that an installed folder can be moved.
file(RELATIVE_PATH to_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" to_prefix "${to_prefix}")
configure_file(cmake/alora_cpp.pc.in "${made}/alora_cpp.pc" @ONLY)

# Beside the library or program that is installed: `pip install` takes the component `python` alone.
install(TARGETS alora_shared EXPORT alora_cppTargets
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT development
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development)
install(DIRECTORY cpp/include/ DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT development)
install(EXPORT alora_cppTargets NAMESPACE alora_cpp:: DESTINATION "${config_folder}" COMPONENT development)
install(FILES "${made}/alora_cppConfig.cmake" "${made}/alora_cppConfigVersion.cmake"
  DESTINATION "${config_folder}" COMPONENT development)
install(FILES "${made}/alora_cpp.pc" DESTINATION "${pkgconfig_folder}" COMPONENT development)
# llama.cpp is linked in, so its licence goes along with ours.
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/alora_cpp" COMPONENT development)
install(FILES "${CMAKE_BINARY_DIR}/llama.cpp/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/alora_cpp"
  RENAME llama.cpp.txt COMPONENT development)
