// mutex_kinds.c - normal, error-checking, recursive, adaptive, inheriting and timed mutexes.
// Checks pthread_mutex_lock (POSIX: "EDEADLK", "EAGAIN", unlock by another thread "EPERM"),
// pthread_mutex_timedlock, pthread_mutex_clocklock and pthread_mutexattr_setprotocol.
// SPDX-License-Identifier: Apache-2.0
#include "tests/programs/expect.h"

enum { kThreads = 12, kRounds = 1500 };

static pthread_mutex_t mutex;
static long long counter;

static void make_mutex(int type, int protocol) {
  pthread_mutexattr_t attributes;
  EXPECT_OK(pthread_mutexattr_init(&attributes));
  EXPECT_OK(pthread_mutexattr_settype(&attributes, type));
  EXPECT_OK(pthread_mutexattr_setprotocol(&attributes, protocol));
  EXPECT_OK(pthread_mutex_init(&mutex, &attributes));
  EXPECT_OK(pthread_mutexattr_destroy(&attributes));
}

static void* count_up(void* argument) {
  (void)argument;
  for (int i = 0; i < kRounds; i++) {
    EXPECT_OK(pthread_mutex_lock(&mutex));
    counter++;
    if (i % 128 == 0) sched_yield();
    EXPECT_OK(pthread_mutex_unlock(&mutex));
  }
  return NULL;
}

static void expect_exclusion(void) {
  pthread_t threads[kThreads];
  counter = 0;
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(count_up, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT_EQ(counter, (long long)kThreads * kRounds);
}

static void* expect_busy(void* expected_unlock_error) {
  EXPECT_EQ(pthread_mutex_trylock(&mutex), EBUSY);
  const long long monotonic = clock_ns(CLOCK_MONOTONIC) + 15 * kMs;
  const struct timespec limit = timespec_from_ns(monotonic);
  EXPECT_EQ(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &limit), ETIMEDOUT);
  EXPECT(clock_ns(CLOCK_MONOTONIC) >= monotonic);
  const long long real = clock_ns(CLOCK_REALTIME) + 15 * kMs;
  const struct timespec real_limit = timespec_from_ns(real);
  EXPECT_EQ(pthread_mutex_timedlock(&mutex, &real_limit), ETIMEDOUT);
  EXPECT(clock_ns(CLOCK_REALTIME) >= real);
  if (expected_unlock_error != NULL) {
    EXPECT_EQ(pthread_mutex_unlock(&mutex), (intptr_t)expected_unlock_error);
  }
  return NULL;
}

static void a_normal_mutex_excludes(void) {
  make_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE);
  expect_exclusion();
  EXPECT_OK(pthread_mutex_lock(&mutex));
  join_thread(start_thread(expect_busy, NULL));
  EXPECT_OK(pthread_mutex_unlock(&mutex));
  EXPECT_OK(pthread_mutex_destroy(&mutex));
}

static void an_adaptive_mutex_excludes(void) {
  make_mutex(PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE);
  expect_exclusion();
}

static void an_error_checking_mutex_tells_misuse(void) {
  make_mutex(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE);
  expect_exclusion();
  EXPECT_EQ(pthread_mutex_unlock(&mutex), EPERM);
  EXPECT_OK(pthread_mutex_lock(&mutex));
  EXPECT_EQ(pthread_mutex_lock(&mutex), EDEADLK);
  EXPECT_EQ(pthread_mutex_destroy(&mutex), EBUSY);
  join_thread(start_thread(expect_busy, (void*)(intptr_t)EPERM));
  EXPECT_OK(pthread_mutex_unlock(&mutex));
}

static void a_recursive_mutex_counts(void) {
  make_mutex(PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE);
  expect_exclusion();
  for (int depth = 0; depth < 10; depth++) EXPECT_OK(pthread_mutex_lock(&mutex));
  EXPECT_OK(pthread_mutex_trylock(&mutex));
  for (int depth = 0; depth < 10; depth++) {
    EXPECT_OK(pthread_mutex_unlock(&mutex));
    // Still ours, also after we have waited and maybe moved to another processor.
    sched_yield();
  }
  join_thread(start_thread(expect_busy, (void*)(intptr_t)EPERM));
  EXPECT_OK(pthread_mutex_unlock(&mutex));
  EXPECT_EQ(pthread_mutex_unlock(&mutex), EPERM);
}

static void an_inheriting_mutex_excludes(void) {
  make_mutex(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_INHERIT);
  expect_exclusion();
  EXPECT_OK(pthread_mutex_lock(&mutex));
  EXPECT_EQ(pthread_mutex_lock(&mutex), EDEADLK);
  join_thread(start_thread(expect_busy, (void*)(intptr_t)EPERM));
  EXPECT_OK(pthread_mutex_unlock(&mutex));
  EXPECT_OK(pthread_mutex_destroy(&mutex));
}

static void* lock_in_time(void* argument) {
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_REALTIME) + kAwaitMs * kMs);
  EXPECT_OK(pthread_mutex_timedlock(&mutex, &limit));
  *(int*)argument = 1;
  EXPECT_OK(pthread_mutex_unlock(&mutex));
  return NULL;
}

static void a_timed_lock_gets_the_mutex_that_is_freed(void) {
  int got = 0;
  make_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE);
  EXPECT_OK(pthread_mutex_lock(&mutex));
  const pthread_t waiter = start_thread(lock_in_time, &got);
  settle();
  EXPECT_OK(pthread_mutex_unlock(&mutex));
  join_thread(waiter);
  EXPECT_EQ(got, 1);
}

int main(void) {
  RUN(a_normal_mutex_excludes);
  RUN(an_adaptive_mutex_excludes);
  RUN(an_error_checking_mutex_tells_misuse);
  RUN(a_recursive_mutex_counts);
  RUN(an_inheriting_mutex_excludes);
  RUN(a_timed_lock_gets_the_mutex_that_is_freed);
  return 0;
}
