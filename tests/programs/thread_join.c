// thread_join.c - the ways to wait for a thread, or not to: join, try, timed, clocked, detach.
// Checks pthread_join(3) "EDEADLK", "EINVAL", pthread_tryjoin_np(3) "EBUSY",
// pthread_timedjoin_np(3) "ETIMEDOUT", pthread_detach(3), and pthread_exit(3)'s result.
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 50 };

static sem_t gate;

static void* return_argument(void* argument) {
  return argument;
}

static void leave_from_below(void* result) {
  pthread_exit(result);
}

static void* exit_with_argument(void* argument) {
  leave_from_below(argument);
  return NULL;
}

static void* wait_at_gate(void* argument) {
  EXPECT_SYS(sem_wait(&gate));
  return argument;
}

static void results_come_back(void) {
  pthread_t threads[kThreads];
  for (intptr_t i = 0; i < kThreads; i++) {
    threads[i] = start_thread(i % 2 == 0 ? return_argument : exit_with_argument, (void*)(i * 3));
  }
  for (intptr_t i = 0; i < kThreads; i++) EXPECT_EQ((intptr_t)join_thread(threads[i]), i * 3);
}

static void trying_and_timing_out(void) {
  void* result = NULL;
  EXPECT_SYS(sem_init(&gate, 0, 0));
  const pthread_t thread = start_thread(wait_at_gate, &gate);
  EXPECT_EQ(pthread_tryjoin_np(thread, &result), EBUSY);
  const long long real = clock_ns(CLOCK_REALTIME) + 20 * kMs;
  const struct timespec real_limit = timespec_from_ns(real);
  EXPECT_EQ(pthread_timedjoin_np(thread, &result, &real_limit), ETIMEDOUT);
  EXPECT(clock_ns(CLOCK_REALTIME) >= real);
  const long long monotonic = clock_ns(CLOCK_MONOTONIC) + 20 * kMs;
  const struct timespec limit = timespec_from_ns(monotonic);
  EXPECT_EQ(pthread_clockjoin_np(thread, &result, CLOCK_MONOTONIC, &limit), ETIMEDOUT);
  EXPECT(clock_ns(CLOCK_MONOTONIC) >= monotonic);
  EXPECT_SYS(sem_post(&gate));
  AWAIT(pthread_tryjoin_np(thread, &result) == 0);
  EXPECT(result == &gate);
}

static void a_timed_join_succeeds_in_time(void) {
  void* result = NULL;
  const pthread_t thread = start_thread(wait_at_gate, &result);
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_REALTIME) + kAwaitMs * kMs);
  EXPECT_SYS(sem_post(&gate));
  EXPECT_OK(pthread_timedjoin_np(thread, &result, &limit));
  EXPECT(result == &result);
}

static void impossible_joins_are_refused(void) {
  EXPECT_EQ(pthread_join(pthread_self(), NULL), EDEADLK);
  const pthread_t detached = start_thread(wait_at_gate, NULL);
  EXPECT_OK(pthread_detach(detached));
  EXPECT_EQ(pthread_join(detached, NULL), EINVAL);
  EXPECT_EQ(pthread_detach(detached), EINVAL);
  EXPECT_SYS(sem_post(&gate));
}

static atomic_int finished;

static void* finish(void* argument) {
  (void)argument;
  finished++;
  return NULL;
}

static void finished_threads_can_be_detached(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(finish, NULL);
  AWAIT(finished == kThreads);
  for (int i = 0; i < kThreads; i++) EXPECT_OK(pthread_detach(threads[i]));
}

struct Link {
  pthread_t before;
  int depth;
};

static void* join_the_one_before(void* argument) {
  struct Link* link = argument;
  if (link->depth == 0) {
    sleep_ms(2);
    return (void*)1;
  }
  return (void*)((intptr_t)join_thread(link->before) + 1);
}

static void threads_join_each_other_in_a_chain(void) {
  struct Link links[kThreads];
  pthread_t last = pthread_self();
  for (int i = 0; i < kThreads; i++) {
    links[i] = (struct Link){last, i};
    last = start_thread(join_the_one_before, &links[i]);
  }
  EXPECT_EQ((intptr_t)join_thread(last), kThreads);
}

int main(void) {
  RUN(results_come_back);
  RUN(trying_and_timing_out);
  RUN(a_timed_join_succeeds_in_time);
  RUN(impossible_joins_are_refused);
  RUN(finished_threads_can_be_detached);
  RUN(threads_join_each_other_in_a_chain);
  return 0;
}
