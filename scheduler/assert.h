// assert.h - invariants: WEFT_CHECK stays in release builds, WEFT_ASSERT only in debug ones.
// A failed check ends the process with one line on standard error: it means that the runtime's own
// state is corrupt, and going on would corrupt the program's. No malloc, no stdio, no lock.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft {

// Prints "weft: panic: <what>: <first>, <second>" and aborts.
[[noreturn]] void panic(const char* what, int64_t first = 0, int64_t second = 0);

}  // namespace weft

#define WEFT_STRINGIFY_(x) #x
#define WEFT_STRINGIFY(x) WEFT_STRINGIFY_(x)

// Both sides of a comparison go into the message: WEFT_CHECK(a == b, a, b).
#define WEFT_CHECK(condition, ...)                                                           \
  do {                                                                                       \
    if (__builtin_expect(!(condition), 0)) {                                                 \
      ::weft::panic(__FILE__ ":" WEFT_STRINGIFY(__LINE__) ": " #condition __VA_OPT__(, )     \
                        __VA_ARGS__);                                                        \
    }                                                                                        \
  } while (false)

#ifdef NDEBUG
#define WEFT_ASSERT(condition, ...) \
  do {                              \
  } while (false)
#else
#define WEFT_ASSERT(condition, ...) WEFT_CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif
