// barriers_once_spins.c - barriers, once-only initialisation and short spinlocks.
// Checks pthread_barrier_wait (POSIX: "PTHREAD_BARRIER_SERIAL_THREAD shall be returned to one
// unspecified thread"), pthread_once "if init_routine is cancelled, as if never called", spin
// locks.
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 24, kRounds = 200, kSpins = 2000 };

static pthread_barrier_t barrier;
static atomic_int arrivals, serial_count;

static void* cross_barrier(void* argument) {
  (void)argument;
  for (int round = 1; round <= kRounds; round++) {
    arrivals++;
    const int result = pthread_barrier_wait(&barrier);
    EXPECT(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
    if (result == PTHREAD_BARRIER_SERIAL_THREAD) serial_count++;
    // Nobody is a round ahead before everybody has arrived at the second barrier.
    EXPECT_EQ(arrivals, round * kThreads);
    pthread_barrier_wait(&barrier);
  }
  return NULL;
}

static void run_threads(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(body, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void a_barrier_holds_all_and_names_one(void) {
  EXPECT_OK(pthread_barrier_init(&barrier, NULL, kThreads));
  run_threads(cross_barrier);
  EXPECT_EQ(serial_count, kRounds);
  EXPECT_OK(pthread_barrier_destroy(&barrier));
  EXPECT_EQ(pthread_barrier_init(&barrier, NULL, 0), EINVAL);
}

static pthread_once_t once = PTHREAD_ONCE_INIT, cancelled_once = PTHREAD_ONCE_INIT;
static atomic_int once_calls, once_ready, cancelled_entries;

static void initialise(void) {
  once_calls++;
  settle();
  once_ready = 1;
}

static void* call_once_and_look(void* argument) {
  (void)argument;
  EXPECT_OK(pthread_once(&once, initialise));
  EXPECT_EQ(once_ready, 1);
  return NULL;
}

static void once_runs_once_and_holds_the_others(void) {
  run_threads(call_once_and_look);
  EXPECT_EQ(once_calls, 1);
}

static void wait_to_be_cancelled(void) {
  if (cancelled_entries++ > 0) return;
  for (;;) pause();
}

static void* call_cancelled_once(void* argument) {
  (void)argument;
  EXPECT_OK(pthread_once(&cancelled_once, wait_to_be_cancelled));
  return NULL;
}

static void a_cancelled_once_is_run_by_the_next(void) {
  const pthread_t first = start_thread(call_cancelled_once, NULL);
  AWAIT(cancelled_entries == 1);
  const pthread_t second = start_thread(call_cancelled_once, NULL);
  settle();
  EXPECT_OK(pthread_cancel(first));
  EXPECT(join_thread(first) == PTHREAD_CANCELED);
  EXPECT(join_thread(second) == NULL);
  EXPECT_EQ(cancelled_entries, 2);
}

static pthread_spinlock_t spin;
static long long spun;

static void* count_under_spinlock(void* argument) {
  (void)argument;
  for (int i = 0; i < kSpins; i++) {
    EXPECT_OK(pthread_spin_lock(&spin));
    spun++;
    EXPECT_OK(pthread_spin_unlock(&spin));
  }
  return NULL;
}

static void a_spinlock_excludes(void) {
  EXPECT_OK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
  run_threads(count_under_spinlock);
  EXPECT_EQ(spun, (long long)kThreads * kSpins);
  EXPECT_OK(pthread_spin_trylock(&spin));
  EXPECT_EQ(pthread_spin_trylock(&spin), EBUSY);
  EXPECT_OK(pthread_spin_unlock(&spin));
}

int main(void) {
  RUN(a_barrier_holds_all_and_names_one);
  RUN(once_runs_once_and_holds_the_others);
  RUN(a_cancelled_once_is_run_by_the_next);
  RUN(a_spinlock_excludes);
  return 0;
}
