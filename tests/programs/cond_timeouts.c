// cond_timeouts.c - timed waits on condition variables, on both clocks.
// Checks pthread_cond_timedwait and pthread_cond_clockwait (POSIX: "an error is returned if the
// absolute time ... passes before the condition is signaled", the mutex is owned again on return).
// SPDX-License-Identifier: Apache-2.0
#include <stdbool.h>

#include "tests/programs/expect.h"

static pthread_mutex_t lock;
static pthread_cond_t condition;
static bool flag;

static void prepare(clockid_t clock) {
  pthread_mutexattr_t kind;
  EXPECT_OK(pthread_mutexattr_init(&kind));
  EXPECT_OK(pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK));
  EXPECT_OK(pthread_mutex_init(&lock, &kind));
  pthread_condattr_t attributes;
  EXPECT_OK(pthread_condattr_init(&attributes));
  EXPECT_OK(pthread_condattr_setclock(&attributes, clock));
  EXPECT_OK(pthread_cond_init(&condition, &attributes));
  flag = false;
}

// A spurious wake-up is allowed, so each wait is repeated until it times out.
static void expect_timeout(clockid_t clock, bool by_clockwait, long long deadline) {
  const struct timespec limit = timespec_from_ns(deadline);
  EXPECT_OK(pthread_mutex_lock(&lock));
  int error = 0;
  while (error == 0) {
    error = by_clockwait ? pthread_cond_clockwait(&condition, &lock, clock, &limit)
                         : pthread_cond_timedwait(&condition, &lock, &limit);
  }
  EXPECT_EQ(error, ETIMEDOUT);
  EXPECT(clock_ns(clock) >= deadline);
  // An error-checking mutex tells whether we own it: EPERM if we do not.
  EXPECT_OK(pthread_mutex_unlock(&lock));
}

static void check_timeouts(clockid_t clock, bool by_clockwait) {
  prepare(by_clockwait ? CLOCK_REALTIME : clock);
  expect_timeout(clock, by_clockwait, clock_ns(clock) + 30 * kMs);
  expect_timeout(clock, by_clockwait, clock_ns(clock));
  expect_timeout(clock, by_clockwait, clock_ns(clock) - 5000 * kMs);
}

static void timedwait_realtime_times_out(void) {
  check_timeouts(CLOCK_REALTIME, false);
}
static void timedwait_monotonic_times_out(void) {
  check_timeouts(CLOCK_MONOTONIC, false);
}
static void clockwait_realtime_times_out(void) {
  check_timeouts(CLOCK_REALTIME, true);
}
static void clockwait_monotonic_times_out(void) {
  check_timeouts(CLOCK_MONOTONIC, true);
}

static void* set_flag(void* argument) {
  (void)argument;
  settle();
  EXPECT_OK(pthread_mutex_lock(&lock));
  flag = true;
  EXPECT_OK(pthread_cond_signal(&condition));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  return NULL;
}

static void signal_comes_before_the_deadline(void) {
  prepare(CLOCK_MONOTONIC);
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_MONOTONIC) + kAwaitMs * kMs);
  EXPECT_OK(pthread_mutex_lock(&lock));
  const pthread_t setter = start_thread(set_flag, NULL);
  while (!flag) EXPECT_OK(pthread_cond_timedwait(&condition, &lock, &limit));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  join_thread(setter);
}

static void wrong_arguments_are_refused(void) {
  prepare(CLOCK_REALTIME);
  const struct timespec wrong = {0, 1000000000};
  EXPECT_OK(pthread_mutex_lock(&lock));
  EXPECT_EQ(pthread_cond_timedwait(&condition, &lock, &wrong), EINVAL);
  const struct timespec limit = {0, 0};
  EXPECT_EQ(pthread_cond_clockwait(&condition, &lock, CLOCK_THREAD_CPUTIME_ID, &limit), EINVAL);
  EXPECT_OK(pthread_mutex_unlock(&lock));
}

enum { kWaiters = 100 };
static int waiting_count, timed_out_count, woken_count;

static void* wait_once(void* argument) {
  const long long ms = (intptr_t)argument;
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_MONOTONIC) + ms * kMs);
  EXPECT_OK(pthread_mutex_lock(&lock));
  waiting_count++;
  int error = 0;
  while (!flag && error == 0) error = pthread_cond_timedwait(&condition, &lock, &limit);
  if (error == ETIMEDOUT) {
    timed_out_count++;
  } else {
    EXPECT_OK(error);
    woken_count++;
  }
  EXPECT_OK(pthread_mutex_unlock(&lock));
  return NULL;
}

static int locked_value(const int* value) {
  EXPECT_OK(pthread_mutex_lock(&lock));
  const int result = *value;
  EXPECT_OK(pthread_mutex_unlock(&lock));
  return result;
}

static void broadcast_wakes_those_that_did_not_time_out(void) {
  prepare(CLOCK_MONOTONIC);
  pthread_t waiters[kWaiters];
  for (int i = 0; i < kWaiters; i++) {
    waiters[i] = start_thread(wait_once, (void*)(intptr_t)(i % 2 == 0 ? 5 + i % 7 : kAwaitMs));
  }
  AWAIT(locked_value(&waiting_count) == kWaiters && locked_value(&timed_out_count) == kWaiters / 2);
  EXPECT_OK(pthread_mutex_lock(&lock));
  flag = true;
  EXPECT_OK(pthread_cond_broadcast(&condition));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
  EXPECT_EQ(woken_count, kWaiters / 2);
  EXPECT_OK(pthread_cond_destroy(&condition));
}

int main(void) {
  RUN(timedwait_realtime_times_out);
  RUN(timedwait_monotonic_times_out);
  RUN(clockwait_realtime_times_out);
  RUN(clockwait_monotonic_times_out);
  RUN(signal_comes_before_the_deadline);
  RUN(wrong_arguments_are_refused);
  RUN(broadcast_wakes_those_that_did_not_time_out);
  return 0;
}
