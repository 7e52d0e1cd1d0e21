// c11_threads.c - the threads of ISO C: thrd_, mtx_, cnd_, tss_ and call_once.
// Checks ISO C11 7.26: thrd_join results, mtx_timedlock and cnd_timedwait "thrd_timedout",
// recursive mutexes, tss destructors and once-only calls.
// SPDX-License-Identifier: Apache-2.0
#include <threads.h>

#include "tests/programs/expect.h"

enum { kThreads = 16, kRounds = 1000 };

static mtx_t lock;
static cnd_t changed;
static tss_t slot;
static once_flag once = ONCE_FLAG_INIT;
static int once_calls, counter, destroyed;
static thread_local int own;

static struct timespec utc_after(long long ms) {
  return timespec_from_ns(clock_ns(CLOCK_REALTIME) + ms * kMs);
}

static void count_call(void) {
  once_calls++;
}

static void count_destroyed(void* value) {
  EXPECT_EQ(mtx_lock(&lock), thrd_success);
  destroyed += *(int*)value;
  EXPECT_EQ(mtx_unlock(&lock), thrd_success);
}

static int count_up(void* argument) {
  call_once(&once, count_call);
  EXPECT_EQ(own, 0);
  int one = 1;
  for (int i = 0; i < kRounds; i++) {
    EXPECT_EQ(mtx_lock(&lock), thrd_success);
    counter++;
    own++;
    EXPECT_EQ(mtx_unlock(&lock), thrd_success);
    if (i % 64 == 0) thrd_yield();
  }
  EXPECT_EQ(own, kRounds);
  static int permanent = 1;
  EXPECT_EQ(tss_set(slot, one ? &permanent : NULL), thrd_success);
  if ((intptr_t)argument % 2 == 0) thrd_exit((int)(intptr_t)argument);
  return (int)(intptr_t)argument;
}

static void threads_count_and_return(void) {
  EXPECT_EQ(mtx_init(&lock, mtx_plain), thrd_success);
  EXPECT_EQ(tss_create(&slot, count_destroyed), thrd_success);
  thrd_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) {
    EXPECT_EQ(thrd_create(&threads[i], count_up, (void*)(intptr_t)i), thrd_success);
  }
  for (int i = 0; i < kThreads; i++) {
    int result = -1;
    EXPECT_EQ(thrd_join(threads[i], &result), thrd_success);
    EXPECT_EQ(result, i);
  }
  EXPECT_EQ(counter, kThreads * kRounds);
  EXPECT_EQ(once_calls, 1);
  EXPECT_EQ(destroyed, kThreads);
}

static int time_out_on_lock(void* argument) {
  const struct timespec limit = utc_after(20);
  EXPECT_EQ(mtx_timedlock(argument, &limit), thrd_timedout);
  EXPECT(clock_ns(CLOCK_REALTIME) >= (long long)limit.tv_sec * 1000000000 + limit.tv_nsec);
  EXPECT_EQ(mtx_trylock(argument), thrd_busy);
  return 0;
}

static void a_timed_recursive_mutex_times_out(void) {
  mtx_t timed;
  EXPECT_EQ(mtx_init(&timed, mtx_timed | mtx_recursive), thrd_success);
  EXPECT_EQ(mtx_lock(&timed), thrd_success);
  EXPECT_EQ(mtx_lock(&timed), thrd_success);
  thrd_t thread;
  EXPECT_EQ(thrd_create(&thread, time_out_on_lock, &timed), thrd_success);
  EXPECT_EQ(thrd_join(thread, NULL), thrd_success);
  EXPECT_EQ(mtx_unlock(&timed), thrd_success);
  EXPECT_EQ(mtx_unlock(&timed), thrd_success);
  mtx_destroy(&timed);
}

static int set_and_signal(void* argument) {
  EXPECT_EQ(mtx_lock(&lock), thrd_success);
  *(int*)argument = 1;
  EXPECT_EQ(cnd_broadcast(&changed), thrd_success);
  EXPECT_EQ(mtx_unlock(&lock), thrd_success);
  return 0;
}

static void condition_variables_signal_and_time_out(void) {
  int flag = 0;
  EXPECT_EQ(cnd_init(&changed), thrd_success);
  EXPECT_EQ(mtx_lock(&lock), thrd_success);
  const struct timespec limit = utc_after(20);
  int result = thrd_success;
  while (result == thrd_success) result = cnd_timedwait(&changed, &lock, &limit);
  EXPECT_EQ(result, thrd_timedout);
  thrd_t setter;
  EXPECT_EQ(thrd_create(&setter, set_and_signal, &flag), thrd_success);
  while (flag == 0) EXPECT_EQ(cnd_wait(&changed, &lock), thrd_success);
  EXPECT_EQ(mtx_unlock(&lock), thrd_success);
  EXPECT_EQ(thrd_join(setter, NULL), thrd_success);
  cnd_destroy(&changed);
}

static void sleeping_is_not_too_short(void) {
  const long long start = clock_ns(CLOCK_MONOTONIC);
  const struct timespec time = timespec_from_ns(10 * kMs);
  EXPECT_EQ(thrd_sleep(&time, NULL), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 10 * kMs);
  EXPECT(thrd_equal(thrd_current(), thrd_current()));
}

int main(void) {
  RUN(threads_count_and_return);
  RUN(a_timed_recursive_mutex_times_out);
  RUN(condition_variables_signal_and_time_out);
  RUN(sleeping_is_not_too_short);
  return 0;
}
