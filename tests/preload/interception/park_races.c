// park_races.c - waits and wakes that meet each other in every order, with exact counts.
// Rule 5: a waiter is published only when its context is saved, and looks at the word once more
// under the lock, so no wake-up is lost and nobody resumes a half-saved thread. A lost one hangs
// here; a doubled one makes a count wrong.
// Checks pthread_cond_wait(3p), sem_wait(3) and FUTEX_WAIT / FUTEX_WAKE of futex(2).
// SPDX-License-Identifier: Apache-2.0
#include <linux/futex.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

enum { kThreads = 16, kItems = 2000, kPairs = 8, kTurns = 3000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int stored;
static long taken;

// Half of the threads put, the other half take as much.
static void* put_or_take(void* argument) {
  for (int i = 0; i < kItems; i++) {
    EXPECT_OK(pthread_mutex_lock(&lock));
    if ((intptr_t)argument % 2 == 0) {
      stored++;
      EXPECT_OK(i % 64 == 0 ? pthread_cond_broadcast(&changed) : pthread_cond_signal(&changed));
    } else {
      while (stored == 0) EXPECT_OK(pthread_cond_wait(&changed, &lock));
      stored--;
      taken++;
    }
    EXPECT_OK(pthread_mutex_unlock(&lock));
    if (i % 8 == 0) sched_yield();
  }
  return NULL;
}

static void run_all(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(body, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void a_condition_loses_nothing(void) {
  run_all(put_or_take);
  EXPECT_EQ(stored, 0);
  EXPECT_EQ(taken, kThreads / 2 * kItems);
}

static sem_t tokens[2];

static void* pass_tokens(void* argument) {
  const int side = (int)((intptr_t)argument % 2);
  for (int i = 0; i < kItems; i++) {
    EXPECT_SYS(sem_wait(&tokens[side]));
    EXPECT_SYS(sem_post(&tokens[1 - side]));
  }
  return NULL;
}

static void a_semaphore_keeps_its_count(void) {
  EXPECT_SYS(sem_init(&tokens[0], 0, 3));
  EXPECT_SYS(sem_init(&tokens[1], 0, 0));
  run_all(pass_tokens);
  int left[2];
  EXPECT_SYS(sem_getvalue(&tokens[0], &left[0]));
  EXPECT_SYS(sem_getvalue(&tokens[1], &left[1]));
  EXPECT_EQ(left[0] + left[1], 3);
}

static atomic_uint turns[kPairs];

static long futex(atomic_uint* word, int operation, unsigned value) {
  return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL);
}

// Two threads a word: the even turns are one's, the odd ones the other's.
static void* take_turns(void* argument) {
  atomic_uint* turn = &turns[(intptr_t)argument / 2];
  const unsigned own = (unsigned)((intptr_t)argument % 2);
  for (int i = 0; i < kTurns; i++) {
    unsigned value;
    while (((value = *turn) & 1) != own) {
      if (futex(turn, FUTEX_WAIT, value) != 0) EXPECT(errno == EAGAIN || errno == EINTR);
    }
    (*turn)++;
    EXPECT(futex(turn, FUTEX_WAKE, 1) <= 1);
  }
  return NULL;
}

static void a_word_is_looked_at_again(void) {
  run_all(take_turns);
  for (int i = 0; i < kPairs; i++) EXPECT_EQ(turns[i], 2 * kTurns);
}

int main(void) {
  RUN(a_condition_loses_nothing);
  RUN(a_semaphore_keeps_its_count);
  RUN(a_word_is_looked_at_again);
  return 0;
}
