// thread_cpu_clock.c - the CPU time of one thread: it grows with what that thread computes, only.
// Checks pthread_getcpuclockid(3), clock_gettime(2) (CLOCK_THREAD_CPUTIME_ID) and getrusage(2)
// (RUSAGE_THREAD).
// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "tests/programs/expect.h"

enum { kThreads = 24, kRounds = 300 };

static atomic_int computing, stop_computing;

static void* compute(void* argument) {
  computing = 1;
  while (!stop_computing) continue;
  return argument;
}

static void cpu_clocks_count_their_thread_only(void) {
  clockid_t own_clock, other_clock;
  const pthread_t other = start_thread(compute, NULL);
  EXPECT_OK(pthread_getcpuclockid(other, &other_clock));
  EXPECT_OK(pthread_getcpuclockid(pthread_self(), &own_clock));
  AWAIT(computing == 1);
  const long long first = clock_ns(other_clock);
  AWAIT(clock_ns(other_clock) >= first + 5 * kMs);
  stop_computing = 1;
  join_thread(other);
  const long long before_sleep = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  sleep_ms(60);
  const long long after_sleep = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  EXPECT(after_sleep >= before_sleep);
  // Sleeping costs next to nothing, whoever computes meanwhile.
  EXPECT(after_sleep - before_sleep < 50 * kMs);
  const long long mine = clock_ns(own_clock);
  EXPECT(mine >= after_sleep);
  EXPECT(clock_ns(CLOCK_PROCESS_CPUTIME_ID) >= 5 * kMs);
  struct rusage usage;
  EXPECT_SYS(getrusage(RUSAGE_THREAD, &usage));
  EXPECT(usage.ru_utime.tv_sec >= 0);
}

static void* read_own_clock(void* argument) {
  long long latest = 0;
  for (int i = 0; i < kRounds; i++) {
    if (i % 100 == 0) sleep_ms(1);
    if (i % 10 == 0) sched_yield();
    const long long now = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    EXPECT(now >= latest);
    latest = now;
  }
  return argument;
}

static void a_threads_time_never_goes_back(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(read_own_clock, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

int main(void) {
  RUN(a_threads_time_never_goes_back);
  RUN(cpu_clocks_count_their_thread_only);
  return 0;
}
