/* What leaves the shared library. In a static build, as in the Python module, nothing does: then both are empty. */
#ifndef ALORA_EXPORT_H
#define ALORA_EXPORT_H

#if defined(ALORA_STATIC)
#define ALORA_API
#define ALORA_LOCAL
#elif defined(_WIN32)
#if defined(ALORA_BUILDS_SHARED)
#define ALORA_API __declspec(dllexport)
#else
#define ALORA_API __declspec(dllimport)
#endif
#define ALORA_LOCAL
#else
#define ALORA_API __attribute__((visibility("default")))
#define ALORA_LOCAL __attribute__((visibility("hidden")))
#endif

/* Exceptions are in headers alone; on Windows they are told apart by name, elsewhere by their exported type. */
#if defined(_WIN32)
#define ALORA_EXCEPTION
#else
#define ALORA_EXCEPTION ALORA_API
#endif

#endif
