// One build for all processors: functions that are compiled several times.

#pragma once

// The loader takes the version with the widest vectors that the processor has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define BACKPACK_RUN_FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BACKPACK_RUN_FOR_EACH_PROCESSOR
#endif

// Inlined into each version, which alone is compiled for its processor.
#define BACKPACK_RUN_INLINE inline __attribute__((always_inline))
