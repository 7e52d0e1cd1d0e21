// thread_keys.c - thread-specific data and its destructors.
// Checks pthread_key_create (POSIX: destructors run with the old value and the slot NULL; repeated
// at least PTHREAD_DESTRUCTOR_ITERATIONS times while a value is not NULL) and pthread_key_delete.
// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 64, kKeys = 40, kRounds = 20 };

static pthread_key_t keys[kKeys];
static atomic_int destroyed[kKeys];

static void* value_for(int thread, int key) {
  return (void*)(intptr_t)(1000 * (thread + 1) + key);
}

static void count_destroyed(void* value) {
  destroyed[(intptr_t)value % 1000]++;
}

static void* keep_own_values(void* argument) {
  const int self = (int)(intptr_t)argument;
  for (int k = 0; k < kKeys; k++) {
    EXPECT(pthread_getspecific(keys[k]) == NULL);
    EXPECT_OK(pthread_setspecific(keys[k], value_for(self, k)));
  }
  for (int round = 0; round < kRounds; round++) {
    if (round % 5 == 0) {
      sleep_ms(1);
    } else {
      sched_yield();
    }
    for (int k = 0; k < kKeys; k++) EXPECT(pthread_getspecific(keys[k]) == value_for(self, k));
  }
  if (self % 2 == 0) pthread_exit(NULL);
  return NULL;
}

static void values_are_the_threads_own(void) {
  pthread_t threads[kThreads];
  for (int k = 0; k < kKeys; k++) EXPECT_OK(pthread_key_create(&keys[k], count_destroyed));
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(keep_own_values, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  for (int k = 0; k < kKeys; k++) {
    EXPECT_EQ(destroyed[k], kThreads);
    EXPECT_OK(pthread_key_delete(keys[k]));
  }
}

static pthread_key_t stubborn_key;
static int stubborn_calls;

static void set_again(void* value) {
  EXPECT(pthread_getspecific(stubborn_key) == NULL);
  stubborn_calls++;
  // A destructor may block as any other code of the thread.
  sleep_ms(1);
  EXPECT_OK(pthread_setspecific(stubborn_key, value));
}

static void* set_stubborn(void* argument) {
  EXPECT_OK(pthread_setspecific(stubborn_key, argument));
  return NULL;
}

static void destructors_repeat_a_bounded_number_of_times(void) {
  EXPECT_OK(pthread_key_create(&stubborn_key, set_again));
  join_thread(start_thread(set_stubborn, &stubborn_calls));
  EXPECT_EQ(stubborn_calls, PTHREAD_DESTRUCTOR_ITERATIONS);
  EXPECT_OK(pthread_key_delete(stubborn_key));
}

static void a_deleted_key_calls_no_destructor(void) {
  const int before = stubborn_calls;
  EXPECT_OK(pthread_key_create(&stubborn_key, set_again));
  EXPECT_OK(pthread_setspecific(stubborn_key, &stubborn_calls));
  EXPECT_OK(pthread_key_delete(stubborn_key));
  EXPECT_EQ(pthread_setspecific(stubborn_key, NULL), EINVAL);
  EXPECT_EQ(stubborn_calls, before);
}

int main(void) {
  RUN(values_are_the_threads_own);
  RUN(destructors_repeat_a_bounded_number_of_times);
  RUN(a_deleted_key_calls_no_destructor);
  return 0;
}
