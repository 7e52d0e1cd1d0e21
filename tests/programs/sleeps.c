// sleeps.c - sleeping, relative and absolute, on both clocks, alone and many at once.
// Checks nanosleep(2) "suspends ... until at least the specified time has elapsed",
// clock_nanosleep(2) TIMER_ABSTIME (returns the error, a past time returns at once), usleep(3) and
// sleep(3).
// SPDX-License-Identifier: Apache-2.0
#include "tests/programs/expect.h"

enum { kSleepers = 200 };

static void nanosleep_is_not_too_short(void) {
  const struct timespec time = timespec_from_ns(20 * kMs);
  struct timespec left = {7, 7};
  const long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_SYS(nanosleep(&time, &left));
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 20 * kMs);
  // The time left is written only when a signal has cut the sleep short.
  EXPECT_EQ(left.tv_sec, 7);
  const struct timespec nothing = {0, 0};
  EXPECT_SYS(nanosleep(&nothing, NULL));
}

static void clock_nanosleep_knows_both_clocks(void) {
  const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};
  for (int i = 0; i < 3; i++) {
    const struct timespec time = timespec_from_ns(10 * kMs);
    const long long start = clock_ns(clocks[i]);
    EXPECT_OK(clock_nanosleep(clocks[i], 0, &time, NULL));
    EXPECT(clock_ns(clocks[i]) - start >= 10 * kMs);
    const long long deadline = clock_ns(clocks[i]) + 10 * kMs;
    const struct timespec limit = timespec_from_ns(deadline);
    EXPECT_OK(clock_nanosleep(clocks[i], TIMER_ABSTIME, &limit, NULL));
    EXPECT(clock_ns(clocks[i]) >= deadline);
    // Past by now.
    EXPECT_OK(clock_nanosleep(clocks[i], TIMER_ABSTIME, &limit, NULL));
  }
}

static void wrong_times_are_refused(void) {
  const struct timespec wrong[] = {{0, -1}, {0, 1000000000}, {-1, 0}};
  for (int i = 0; i < 3; i++) {
    EXPECT_ERRNO(nanosleep(&wrong[i], NULL), EINVAL);
    EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &wrong[i], NULL), EINVAL);
  }
  const struct timespec time = {0, 0};
  EXPECT_EQ(clock_nanosleep(1000, 0, &time, NULL), EINVAL);
}

static void older_calls_sleep_too(void) {
  long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_SYS(usleep(10000));
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 10 * kMs);
  EXPECT_EQ(sleep(0), 0);
  start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_EQ(sleep(1), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 1000 * kMs);
}

static void* sleep_by_number(void* argument) {
  const long long time = (1 + (intptr_t)argument * 37 % 60) * kMs;
  const long long deadline = clock_ns(CLOCK_MONOTONIC) + time;
  for (int i = 0; i < 2; i++) {
    const long long start = clock_ns(CLOCK_MONOTONIC);
    const struct timespec relative = timespec_from_ns(time);
    const struct timespec absolute = timespec_from_ns(deadline + i * 5 * kMs);
    if ((intptr_t)argument % 2 == 0) {
      EXPECT_OK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &absolute, NULL));
      EXPECT(clock_ns(CLOCK_MONOTONIC) >= deadline + i * 5 * kMs);
    } else {
      EXPECT_SYS(nanosleep(&relative, NULL));
      EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= time);
    }
  }
  return NULL;
}

static void many_sleep_at_once(void) {
  pthread_t sleepers[kSleepers];
  for (int i = 0; i < kSleepers; i++) {
    sleepers[i] = start_thread(sleep_by_number, (void*)(intptr_t)i);
  }
  for (int i = 0; i < kSleepers; i++) join_thread(sleepers[i]);
}

int main(void) {
  RUN(nanosleep_is_not_too_short);
  RUN(clock_nanosleep_knows_both_clocks);
  RUN(wrong_times_are_refused);
  RUN(older_calls_sleep_too);
  RUN(many_sleep_at_once);
  return 0;
}
