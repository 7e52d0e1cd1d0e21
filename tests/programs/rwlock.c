// rwlock.c - read-write locks: shared reading, exclusive writing, timed and tried locking.
// Checks pthread_rwlock_rdlock, _wrlock, _timedrdlock, _clockwrlock and _unlock (POSIX: "EDEADLK",
// "EBUSY: the lock could not be acquired because it was already locked").
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kReaders = 12, kWriters = 4, kRounds = 1500 };

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static long long first_half, second_half;
static atomic_int readers_inside;

static void* read_halves(void* argument) {
  (void)argument;
  for (int i = 0; i < kRounds; i++) {
    EXPECT_OK(pthread_rwlock_rdlock(&lock));
    EXPECT_EQ(first_half, second_half);
    EXPECT_OK(pthread_rwlock_unlock(&lock));
  }
  return NULL;
}

static void* write_halves(void* argument) {
  (void)argument;
  for (int i = 0; i < kRounds; i++) {
    EXPECT_OK(pthread_rwlock_wrlock(&lock));
    first_half++;
    if (i % 16 == 0) sched_yield();
    second_half++;
    EXPECT_OK(pthread_rwlock_unlock(&lock));
  }
  return NULL;
}

static void readers_never_see_half_a_write(void) {
  pthread_t threads[kReaders + kWriters];
  for (int i = 0; i < kReaders; i++) threads[i] = start_thread(read_halves, NULL);
  for (int i = 0; i < kWriters; i++) threads[kReaders + i] = start_thread(write_halves, NULL);
  for (int i = 0; i < kReaders + kWriters; i++) join_thread(threads[i]);
  EXPECT_EQ(first_half, kWriters * kRounds);
}

static void* read_together(void* argument) {
  (void)argument;
  EXPECT_OK(pthread_rwlock_rdlock(&lock));
  readers_inside++;
  AWAIT(readers_inside == kReaders);
  EXPECT_OK(pthread_rwlock_unlock(&lock));
  return NULL;
}

static void readers_share(void) {
  pthread_t threads[kReaders];
  for (int i = 0; i < kReaders; i++) threads[i] = start_thread(read_together, NULL);
  for (int i = 0; i < kReaders; i++) join_thread(threads[i]);
}

static void* fail_while_write_locked(void* argument) {
  (void)argument;
  EXPECT_EQ(pthread_rwlock_tryrdlock(&lock), EBUSY);
  EXPECT_EQ(pthread_rwlock_trywrlock(&lock), EBUSY);
  const long long real = clock_ns(CLOCK_REALTIME) + 15 * kMs;
  const struct timespec real_limit = timespec_from_ns(real);
  EXPECT_EQ(pthread_rwlock_timedrdlock(&lock, &real_limit), ETIMEDOUT);
  EXPECT(clock_ns(CLOCK_REALTIME) >= real);
  EXPECT_EQ(pthread_rwlock_timedwrlock(&lock, &real_limit), ETIMEDOUT);
  const long long monotonic = clock_ns(CLOCK_MONOTONIC) + 15 * kMs;
  const struct timespec limit = timespec_from_ns(monotonic);
  EXPECT_EQ(pthread_rwlock_clockrdlock(&lock, CLOCK_MONOTONIC, &limit), ETIMEDOUT);
  EXPECT_EQ(pthread_rwlock_clockwrlock(&lock, CLOCK_MONOTONIC, &limit), ETIMEDOUT);
  EXPECT(clock_ns(CLOCK_MONOTONIC) >= monotonic);
  return NULL;
}

static void a_writer_keeps_others_out(void) {
  EXPECT_OK(pthread_rwlock_wrlock(&lock));
  EXPECT_EQ(pthread_rwlock_wrlock(&lock), EDEADLK);
  EXPECT_EQ(pthread_rwlock_rdlock(&lock), EDEADLK);
  join_thread(start_thread(fail_while_write_locked, NULL));
  EXPECT_OK(pthread_rwlock_unlock(&lock));
}

static void* write_soon(void* argument) {
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_MONOTONIC) + kAwaitMs * kMs);
  EXPECT_OK(pthread_rwlock_clockwrlock(&lock, CLOCK_MONOTONIC, &limit));
  *(int*)argument = 1;
  EXPECT_OK(pthread_rwlock_unlock(&lock));
  return NULL;
}

static void a_timed_writer_gets_the_lock_that_is_freed(void) {
  int written = 0;
  EXPECT_OK(pthread_rwlock_rdlock(&lock));
  const pthread_t writer = start_thread(write_soon, &written);
  settle();
  EXPECT_EQ(written, 0);
  EXPECT_EQ(pthread_rwlock_trywrlock(&lock), EBUSY);
  EXPECT_OK(pthread_rwlock_unlock(&lock));
  join_thread(writer);
  EXPECT_EQ(written, 1);
}

static void writers_may_be_preferred(void) {
  pthread_rwlockattr_t kind;
  EXPECT_OK(pthread_rwlockattr_init(&kind));
  EXPECT_OK(pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
  EXPECT_OK(pthread_rwlock_init(&lock, &kind));
  first_half = second_half = 0;
  readers_never_see_half_a_write();
  EXPECT_OK(pthread_rwlock_destroy(&lock));
}

int main(void) {
  RUN(readers_never_see_half_a_write);
  RUN(readers_share);
  RUN(a_writer_keeps_others_out);
  RUN(a_timed_writer_gets_the_lock_that_is_freed);
  RUN(writers_may_be_preferred);
  return 0;
}
