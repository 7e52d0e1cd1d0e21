// futex_requeue.c - waiters moved from one futex to another, and the wake that also changes a word.
// Checks futex(2): FUTEX_REQUEUE and FUTEX_CMP_REQUEUE ("EAGAIN: the value ... does not equal"; the
// result counts woken, and with CMP_REQUEUE moved, waiters), FUTEX_WAKE_OP, FUTEX_LOCK_PI.
// SPDX-License-Identifier: Apache-2.0
#include <limits.h>

#include "tests/programs/futex_words.h"

enum { kWaiters = 24 };

static FutexWord first, second;
static atomic_int awake;

static void* wait_on(void* argument) {
  FutexWord* word = argument;
  while (futex_wait(word, 7, NULL) != 0) EXPECT_EQ(errno, EINTR);
  awake++;
  return NULL;
}

static void start_waiters(pthread_t* waiters, int count, FutexWord* word) {
  awake = 0;
  for (int i = 0; i < count; i++) waiters[i] = start_thread(wait_on, word);
}

static long requeue(int operation, int wake_count, int move_count, uint32_t expected) {
  return futex(&first, operation, (uint32_t)wake_count, (const void*)(intptr_t)move_count, &second,
               expected);
}

static void moved_waiters_wait_on_the_second(void) {
  pthread_t waiters[kWaiters];
  first = second = 7;
  start_waiters(waiters, kWaiters, &first);
  // Compared, with nobody woken: the result is how many were moved.
  int moved = 0;
  AWAIT((moved += (int)requeue(FUTEX_CMP_REQUEUE_PRIVATE, 0, INT_MAX, 7)) == kWaiters);
  EXPECT_EQ(awake, 0);
  EXPECT_EQ(futex_wake(&first, INT_MAX), 0);
  EXPECT_EQ(futex_wake(&second, 5), 5);
  AWAIT(awake == 5);
  EXPECT_EQ(futex_wake(&second, INT_MAX), kWaiters - 5);
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
}

static void some_are_woken_and_some_are_moved(void) {
  pthread_t waiters[kWaiters];
  first = second = 7;
  start_waiters(waiters, kWaiters, &second);
  int back = 0;
  // All of them known to be blocked: gathered on the second, then put on the first.
  FutexWord* from = &second;
  AWAIT((back += (int)futex(from, FUTEX_CMP_REQUEUE_PRIVATE, 0, (const void*)(intptr_t)INT_MAX,
                            &first, 7)) == kWaiters);
  EXPECT_ERRNO(requeue(FUTEX_CMP_REQUEUE_PRIVATE, 1, INT_MAX, 8), EAGAIN);
  EXPECT_EQ(requeue(FUTEX_CMP_REQUEUE_PRIVATE, 3, 4, 7), 7);
  AWAIT(awake == 3);
  // The older FUTEX_REQUEUE counts those that were woken (and those moved, on Linux today).
  EXPECT_EQ(requeue(FUTEX_REQUEUE_PRIVATE, 2, 0, 0), 2);
  AWAIT(awake == 5);
  EXPECT_EQ(futex_wake(&second, INT_MAX), 4);
  EXPECT_EQ(futex_wake(&first, INT_MAX), kWaiters - 9);
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
  EXPECT_ERRNO(requeue(FUTEX_CMP_REQUEUE_PRIVATE, -1, 1, 7), EINVAL);
}

static long wake_op(uint32_t operation, uint32_t operand, uint32_t comparison, uint32_t compared) {
  return futex(&first, FUTEX_WAKE_OP_PRIVATE, INT_MAX, (const void*)(intptr_t)INT_MAX, &second,
               FUTEX_OP(operation, operand, comparison, compared));
}

static void wake_op_changes_the_second_word(void) {
  second = 10;
  EXPECT_EQ(wake_op(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 10), 0);
  EXPECT_EQ(second, 15);
  EXPECT_EQ(wake_op(FUTEX_OP_SET, 3, FUTEX_OP_CMP_EQ, 0), 0);
  EXPECT_EQ(second, 3);
  EXPECT_EQ(wake_op(FUTEX_OP_OR, 12, FUTEX_OP_CMP_NE, 0), 0);
  EXPECT_EQ(second, 15);
  EXPECT_EQ(wake_op(FUTEX_OP_ANDN, 5, FUTEX_OP_CMP_LT, 0), 0);
  EXPECT_EQ(second, 10);
  EXPECT_EQ(wake_op(FUTEX_OP_XOR, 3, FUTEX_OP_CMP_GT, 0), 0);
  EXPECT_EQ(second, 9);
  EXPECT_EQ(wake_op(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 4, FUTEX_OP_CMP_GE, 0), 0);
  EXPECT_EQ(second, 25);
}

static void wake_op_wakes_the_second_on_its_condition(void) {
  pthread_t on_first, on_second;
  first = second = 7;
  start_waiters(&on_first, 1, &first);
  start_waiters(&on_second, 1, &second);
  // ADD 0 leaves the word at 7, so that the comparison alone decides.
  AWAIT(wake_op(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_NE, 7) == 1);
  join_thread(on_first);
  EXPECT_EQ(futex_wake(&first, 1), 0);
  AWAIT(wake_op(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 7) == 1);
  join_thread(on_second);
}

static long futex_plain(FutexWord* word, int operation) {
  return futex(word, operation | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
}

static void* lock_and_hold(void* argument) {
  EXPECT_SYS(futex_plain(&first, FUTEX_LOCK_PI));
  EXPECT_EQ(first & FUTEX_TID_MASK, gettid());
  *(int*)argument += 1;
  sched_yield();
  EXPECT_SYS(futex_plain(&first, FUTEX_UNLOCK_PI));
  return NULL;
}

static void an_inheriting_lock_names_its_owner(void) {
  pthread_t threads[kWaiters];
  int count = 0;
  first = 0;
  EXPECT_SYS(futex_plain(&first, FUTEX_LOCK_PI));
  EXPECT_EQ(first & FUTEX_TID_MASK, gettid());
  EXPECT_ERRNO(futex_plain(&first, FUTEX_LOCK_PI), EDEADLK);
  for (int i = 0; i < kWaiters; i++) threads[i] = start_thread(lock_and_hold, &count);
  settle();
  EXPECT_EQ(count, 0);
  EXPECT_SYS(futex_plain(&first, FUTEX_UNLOCK_PI));
  for (int i = 0; i < kWaiters; i++) join_thread(threads[i]);
  EXPECT_EQ(count, kWaiters);
  EXPECT_EQ(first, 0);
  EXPECT_SYS(futex_plain(&first, FUTEX_TRYLOCK_PI));
  EXPECT_SYS(futex_plain(&first, FUTEX_UNLOCK_PI));
  EXPECT_ERRNO(futex_plain(&first, FUTEX_UNLOCK_PI), EPERM);
}

int main(void) {
  RUN(moved_waiters_wait_on_the_second);
  RUN(some_are_woken_and_some_are_moved);
  RUN(wake_op_changes_the_second_word);
  RUN(wake_op_wakes_the_second_on_its_condition);
  RUN(an_inheriting_lock_names_its_owner);
  return 0;
}
