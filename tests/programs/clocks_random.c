// clocks_random.c - clocks and random numbers, read by many threads that move between processors.
// Checks clock_gettime(2) (CLOCK_MONOTONIC never goes back for a thread, or from thread to thread),
// gettimeofday(2), time(2), times(2), clock_getres(2), getrandom(2) and getentropy(3).
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>

#include "tests/programs/expect.h"

enum { kThreads = 24, kRounds = 300, kRandomBytes = 32 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long long latest;

static void* read_monotonic_clock(void* argument) {
  for (int i = 0; i < kRounds; i++) {
    EXPECT_OK(pthread_mutex_lock(&lock));
    const long long now = clock_ns(CLOCK_MONOTONIC);
    EXPECT(now >= latest);
    latest = now;
    EXPECT_OK(pthread_mutex_unlock(&lock));
    if (i % 100 == 0) sleep_ms(1);
    if (i % 10 == 0) sched_yield();
  }
  return argument;
}

static void monotonic_time_never_goes_back(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(read_monotonic_clock, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void the_calls_agree_with_each_other(void) {
  const long long real = clock_ns(CLOCK_REALTIME);
  struct timeval by_call;
  EXPECT_SYS(gettimeofday(&by_call, NULL));
  const time_t seconds = time(NULL);
  // A bound that only a wrong clock misses: the real-time clock may be adjusted meanwhile.
  EXPECT(llabs(by_call.tv_sec - real / 1000000000) < 60);
  EXPECT(llabs(seconds - by_call.tv_sec) < 60);
  struct timespec by_kernel;
  EXPECT_SYS(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &by_kernel));
  EXPECT((long long)by_kernel.tv_sec * 1000000000 + by_kernel.tv_nsec <= clock_ns(CLOCK_MONOTONIC));
  struct timespec resolution;
  EXPECT_SYS(clock_getres(CLOCK_MONOTONIC, &resolution));
  EXPECT(resolution.tv_sec == 0 && resolution.tv_nsec > 0);
  struct tms times_used;
  EXPECT(times(&times_used) != (clock_t)-1);
  EXPECT(clock() != (clock_t)-1);
  EXPECT_ERRNO(clock_gettime(1000, &resolution), EINVAL);
}

static unsigned char randoms[kThreads][kRandomBytes];

static void* get_random_bytes(void* argument) {
  unsigned char* own = randoms[(intptr_t)argument];
  if ((intptr_t)argument % 2 == 0) {
    EXPECT_EQ(getrandom(own, kRandomBytes, 0), kRandomBytes);
  } else {
    EXPECT_SYS(getentropy(own, kRandomBytes));
  }
  return NULL;
}

static void random_bytes_differ(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++)
    threads[i] = start_thread(get_random_bytes, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  for (int i = 0; i < kThreads; i++) {
    for (int k = 0; k < i; k++) EXPECT(memcmp(randoms[i], randoms[k], kRandomBytes) != 0);
  }
  EXPECT_ERRNO(getrandom(randoms, 1, 0xffff), EINVAL);
}

int main(void) {
  RUN(monotonic_time_never_goes_back);
  RUN(the_calls_agree_with_each_other);
  RUN(random_bytes_differ);
  return 0;
}
