// futex_words.h - the futex system call by its operations, for the programs that use it directly.
// Guarantee: each function is one call of futex(2) through syscall(2), and returns what that
// returned. Included by futex_waits.c, futex_requeue.c and process_shared.c. Read next: expect.h.
// SPDX-License-Identifier: Apache-2.0
#ifndef WEFT_TESTS_PROGRAMS_FUTEX_WORDS_H_
#define WEFT_TESTS_PROGRAMS_FUTEX_WORDS_H_

#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

typedef _Atomic uint32_t FutexWord;

static inline long futex(FutexWord* word, int operation, uint32_t value, const void* time_or_count,
                         FutexWord* other, uint32_t value3) {
  return syscall(SYS_futex, word, operation, value, time_or_count, other, value3);
}

static inline long futex_wait(FutexWord* word, uint32_t value, const struct timespec* timeout) {
  return futex(word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

static inline long futex_wake(FutexWord* word, int count) {
  return futex(word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, (uint32_t)count, NULL, NULL, 0);
}

// Wakes until `count` waiters were woken in all: they may come one after the other.
static inline void futex_wake_exactly(FutexWord* word, int count) {
  AWAIT((count -= (int)EXPECT_SYS(futex_wake(word, count))) == 0);
}

#endif  // WEFT_TESTS_PROGRAMS_FUTEX_WORDS_H_
