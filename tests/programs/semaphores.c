// semaphores.c - unnamed and named semaphores: wait, try, timed waits on both clocks, the value.
// Checks sem_wait(3), sem_timedwait(3) "ETIMEDOUT", sem_clockwait, sem_trywait "EAGAIN",
// sem_getvalue(3) and sem_post(3) "EOVERFLOW".
// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <semaphore.h>

#include "tests/programs/expect.h"

enum { kThreads = 16, kRounds = 2000, kPermits = 3 };

static sem_t permits, turn[2];
static int inside, inside_max;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void count_inside(int change) {
  EXPECT_OK(pthread_mutex_lock(&lock));
  inside += change;
  if (inside > inside_max) inside_max = inside;
  EXPECT_OK(pthread_mutex_unlock(&lock));
}

static void* use_permits(void* argument) {
  (void)argument;
  for (int i = 0; i < kRounds / 4; i++) {
    EXPECT_SYS(sem_wait(&permits));
    count_inside(1);
    if (i % 8 == 0) sched_yield();
    count_inside(-1);
    EXPECT_SYS(sem_post(&permits));
  }
  return NULL;
}

static void no_more_threads_than_permits(void) {
  EXPECT_SYS(sem_init(&permits, 0, kPermits));
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(use_permits, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT(inside_max <= kPermits);
  int value = -1;
  EXPECT_SYS(sem_getvalue(&permits, &value));
  EXPECT_EQ(value, kPermits);
  EXPECT_SYS(sem_destroy(&permits));
}

static void* take_turns(void* argument) {
  const int self = (int)(intptr_t)argument;
  for (int i = 0; i < kRounds; i++) {
    EXPECT_SYS(sem_wait(&turn[self]));
    EXPECT_EQ(inside % 2, self);
    inside++;
    EXPECT_SYS(sem_post(&turn[1 - self]));
  }
  return NULL;
}

static void two_threads_alternate(void) {
  inside = 0;
  EXPECT_SYS(sem_init(&turn[0], 0, 1));
  EXPECT_SYS(sem_init(&turn[1], 0, 0));
  const pthread_t even = start_thread(take_turns, (void*)0);
  const pthread_t odd = start_thread(take_turns, (void*)1);
  join_thread(even);
  join_thread(odd);
  EXPECT_EQ(inside, 2 * kRounds);
}

static void timed_waits_end_at_their_deadline(void) {
  EXPECT_SYS(sem_init(&permits, 0, 0));
  EXPECT_ERRNO(sem_trywait(&permits), EAGAIN);
  const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC};
  for (int i = 0; i < 2; i++) {
    const long long deadline = clock_ns(clocks[i]) + 20 * kMs;
    const struct timespec limit = timespec_from_ns(deadline);
    EXPECT_ERRNO(sem_clockwait(&permits, clocks[i], &limit), ETIMEDOUT);
    EXPECT(clock_ns(clocks[i]) >= deadline);
  }
  const long long deadline = clock_ns(CLOCK_REALTIME) + 20 * kMs;
  const struct timespec limit = timespec_from_ns(deadline);
  EXPECT_ERRNO(sem_timedwait(&permits, &limit), ETIMEDOUT);
  EXPECT(clock_ns(CLOCK_REALTIME) >= deadline);
  EXPECT_SYS(sem_post(&permits));
  // POSIX: the wait shall not fail with a timeout if the semaphore can be locked at once.
  EXPECT_SYS(sem_timedwait(&permits, &limit));
  const struct timespec wrong = {0, -1};
  EXPECT_ERRNO(sem_timedwait(&permits, &wrong), EINVAL);
}

static void* post_later(void* argument) {
  settle();
  EXPECT_SYS(sem_post(argument));
  return NULL;
}

static void a_post_ends_a_timed_wait(void) {
  EXPECT_SYS(sem_init(&permits, 0, 0));
  const pthread_t poster = start_thread(post_later, &permits);
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_MONOTONIC) + kAwaitMs * kMs);
  EXPECT_SYS(sem_clockwait(&permits, CLOCK_MONOTONIC, &limit));
  join_thread(poster);
}

static void the_value_is_bounded(void) {
  EXPECT_ERRNO(sem_init(&permits, 0, (unsigned)SEM_VALUE_MAX + 1), EINVAL);
  EXPECT_SYS(sem_init(&permits, 0, SEM_VALUE_MAX));
  EXPECT_ERRNO(sem_post(&permits), EOVERFLOW);
}

static void a_named_semaphore_wakes_a_thread(void) {
  char name[64];
  snprintf(name, sizeof name, "/weft-program-%d", (int)getpid());
  sem_t* named = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
  if (named == SEM_FAILED) skip("no named semaphores: /dev/shm is not usable");
  EXPECT_SYS(sem_unlink(name));
  const pthread_t poster = start_thread(post_later, named);
  EXPECT_SYS(sem_wait(named));
  join_thread(poster);
  EXPECT_SYS(sem_close(named));
}

int main(void) {
  RUN(no_more_threads_than_permits);
  RUN(two_threads_alternate);
  RUN(timed_waits_end_at_their_deadline);
  RUN(a_post_ends_a_timed_wait);
  RUN(the_value_is_bounded);
  RUN(a_named_semaphore_wakes_a_thread);
  return 0;
}
