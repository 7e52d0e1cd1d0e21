// weft.h - the public header of libweft: which version it is, and how a process comes to use it.
// The library has no functions to call. A process uses it by being started with
//   LD_PRELOAD=/path/to/libweft.so     (what `weft run` sets), or by being linked with it;
// from its first pthread_create(3) or thrd_create(3) on its threads are fibers. Everything else is
// said by environment variables, which the library reads once, when it is loaded: WEFT,
// WEFT_WORKERS, WEFT_BLOCKING_MAX, WEFT_STACK_SIZE, WEFT_INTERCEPT, WEFT_STATS, WEFT_FOLLOW,
// WEFT_VERBOSE, WEFT_CACHE. Their values and meaning: docs/tuning.md.
// C and C++.
// SPDX-License-Identifier: Apache-2.0
#ifndef WEFT_WEFT_H
#define WEFT_WEFT_H

// The version of the library that this header came with. The build compares it with the project's.
#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1
#define WEFT_VERSION_PATCH 0

// As one number, to compare: #if WEFT_VERSION_NUMBER >= WEFT_VERSION_OF(0, 2, 0).
#define WEFT_VERSION_OF(major, minor, patch) ((major) * 1000000 + (minor) * 1000 + (patch))
#define WEFT_VERSION_NUMBER \
  WEFT_VERSION_OF(WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR, WEFT_VERSION_PATCH)

#endif
