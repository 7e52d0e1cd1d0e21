// futex_waits.c - the futex system call used directly: waiting, waking, bit sets, timeouts, errors.
// Checks futex(2): FUTEX_WAIT "EAGAIN: the value ... was not equal", its relative timeout,
// FUTEX_WAIT_BITSET's absolute one on both clocks, FUTEX_WAKE's count, FUTEX_WAKE_BITSET.
// SPDX-License-Identifier: Apache-2.0
#include <limits.h>

#include "tests/programs/futex_words.h"

enum { kWaiters = 30 };

static FutexWord word;
static atomic_int awake[2];

static void errors_come_at_once(void) {
  char* bytes = (char*)&word;
  const struct timespec wrong = {0, 1000000000};
  FutexWord* volatile nowhere = (FutexWord*)8;
  word = 5;
  EXPECT_ERRNO(futex_wait(&word, 4, NULL), EAGAIN);
  EXPECT_ERRNO(futex_wait((FutexWord*)(void*)(bytes + 1), 4, NULL), EINVAL);
  EXPECT_ERRNO(futex_wait(nowhere, 4, NULL), EFAULT);
  EXPECT_ERRNO(futex_wait(&word, 5, &wrong), EINVAL);
  EXPECT_ERRNO(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 5, NULL, NULL, 0), EINVAL);
  EXPECT_ERRNO(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 0), EINVAL);
  EXPECT_ERRNO(futex(&word, 99, 5, NULL, NULL, 0), ENOSYS);
  EXPECT_EQ(futex_wake(&word, INT_MAX), 0);
  EXPECT_EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
}

static void relative_timeouts_are_not_too_short(void) {
  word = 1;
  const int operations[] = {FUTEX_WAIT | FUTEX_PRIVATE_FLAG, FUTEX_WAIT};
  for (int i = 0; i < 2; i++) {
    const struct timespec time = timespec_from_ns(20 * kMs);
    const long long start = clock_ns(CLOCK_MONOTONIC);
    EXPECT_ERRNO(futex(&word, operations[i], 1, &time, NULL, 0), ETIMEDOUT);
    EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 20 * kMs);
  }
  const struct timespec nothing = {0, 0};
  EXPECT_ERRNO(futex_wait(&word, 1, &nothing), ETIMEDOUT);
}

static void absolute_timeouts_are_kept_on_both_clocks(void) {
  word = 1;
  for (int i = 0; i < 2; i++) {
    const clockid_t clock = i == 0 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    const int operation = FUTEX_WAIT_BITSET_PRIVATE | (i == 0 ? 0 : FUTEX_CLOCK_REALTIME);
    const long long deadline = clock_ns(clock) + 20 * kMs;
    const struct timespec limit = timespec_from_ns(deadline);
    for (int turn = 0; turn < 2; turn++) {
      // The second time the deadline is past.
      EXPECT_ERRNO(futex(&word, operation, 1, &limit, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
      EXPECT(clock_ns(clock) >= deadline);
    }
  }
}

static void* wait_plainly(void* argument) {
  // A waiter returns only when it was woken: the word never changes.
  while (futex_wait(&word, 7, NULL) != 0) EXPECT_EQ(errno, EINTR);
  awake[0]++;
  return argument;
}

static void wake_counts_those_it_woke(void) {
  pthread_t waiters[kWaiters];
  word = 7;
  for (int i = 0; i < kWaiters; i++) waiters[i] = start_thread(wait_plainly, NULL);
  futex_wake_exactly(&word, 10);
  AWAIT(awake[0] == 10);
  settle();
  EXPECT_EQ(awake[0], 10);
  futex_wake_exactly(&word, kWaiters - 10);
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
  EXPECT_EQ(futex_wake(&word, INT_MAX), 0);
}

static void* wait_with_bit(void* argument) {
  const int bit = (int)(intptr_t)argument;
  while (futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 7, NULL, NULL, 1u << bit) != 0) {
    EXPECT_EQ(errno, EINTR);
  }
  awake[bit]++;
  return NULL;
}

static void bit_sets_choose_the_waiters(void) {
  pthread_t waiters[kWaiters];
  awake[0] = awake[1] = 0;
  for (int i = 0; i < kWaiters; i++) {
    waiters[i] = start_thread(wait_with_bit, (void*)(intptr_t)(i % 2));
  }
  int left = kWaiters / 2;
  AWAIT((left -= (int)futex(&word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, 2)) == 0);
  AWAIT(awake[1] == kWaiters / 2);
  EXPECT_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, 4), 0);
  EXPECT_EQ(awake[0], 0);
  // FUTEX_WAKE matches every bit.
  futex_wake_exactly(&word, kWaiters / 2);
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
}

static FutexWord turn;

static void* take_turns(void* argument) {
  const uint32_t self = (uint32_t)(intptr_t)argument;
  for (int i = 0; i < 2000; i++) {
    for (uint32_t seen = turn; seen % 2 != self; seen = turn) {
      if (futex_wait(&turn, seen, NULL) != 0) EXPECT(errno == EAGAIN || errno == EINTR);
    }
    turn++;
    EXPECT_SYS(futex_wake(&turn, 1));
  }
  return NULL;
}

static void no_wake_up_is_lost_between_two(void) {
  const pthread_t even = start_thread(take_turns, (void*)0);
  const pthread_t odd = start_thread(take_turns, (void*)1);
  join_thread(even);
  join_thread(odd);
  EXPECT_EQ(turn, 4000);
}

int main(void) {
  RUN(errors_come_at_once);
  RUN(relative_timeouts_are_not_too_short);
  RUN(absolute_timeouts_are_kept_on_both_clocks);
  RUN(wake_counts_those_it_woke);
  RUN(bit_sets_choose_the_waiters);
  RUN(no_wake_up_is_lost_between_two);
  return 0;
}
