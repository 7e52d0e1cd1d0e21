// mutex_robust.c - a robust mutex whose owner ends: by return, by pthread_exit, by cancellation.
// Checks pthread_mutexattr_setrobust(3): the next owner gets EOWNERDEAD,
// pthread_mutex_consistent(3) heals the mutex, and unlocking it unhealed makes it ENOTRECOVERABLE
// for ever.
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 10, kMutexes = 5 };

static pthread_mutex_t mutexes[kMutexes];
static atomic_int owned;

static void make_robust(int protocol) {
  pthread_mutexattr_t attributes;
  EXPECT_OK(pthread_mutexattr_init(&attributes));
  EXPECT_OK(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
  EXPECT_OK(pthread_mutexattr_setprotocol(&attributes, protocol));
  for (int i = 0; i < kMutexes; i++) EXPECT_OK(pthread_mutex_init(&mutexes[i], &attributes));
}

static void* lock_all_and_end(void* way) {
  for (int i = 0; i < kMutexes; i++) EXPECT_OK(pthread_mutex_lock(&mutexes[i]));
  owned = 1;
  if ((intptr_t)way == 1) pthread_exit(NULL);
  while ((intptr_t)way == 2) pause();
  return NULL;
}

static void heal_after_each_way_to_end(int protocol) {
  make_robust(protocol);
  for (int way = 0; way < 3; way++) {
    owned = 0;
    const pthread_t owner = start_thread(lock_all_and_end, (void*)(intptr_t)way);
    AWAIT(owned == 1);
    if (way == 2) EXPECT_OK(pthread_cancel(owner));
    join_thread(owner);
    for (int i = 0; i < kMutexes; i++) {
      if (i % 2 == 0) {
        EXPECT_EQ(pthread_mutex_lock(&mutexes[i]), EOWNERDEAD);
      } else {
        EXPECT_EQ(pthread_mutex_trylock(&mutexes[i]), EOWNERDEAD);
      }
      EXPECT_OK(pthread_mutex_consistent(&mutexes[i]));
      EXPECT_OK(pthread_mutex_unlock(&mutexes[i]));
      EXPECT_OK(pthread_mutex_lock(&mutexes[i]));
      EXPECT_OK(pthread_mutex_unlock(&mutexes[i]));
    }
  }
}

static void the_next_owner_heals(void) {
  heal_after_each_way_to_end(PTHREAD_PRIO_NONE);
}
static void the_next_owner_heals_an_inheriting_one(void) {
  heal_after_each_way_to_end(PTHREAD_PRIO_INHERIT);
}

static void* wait_for_the_dead(void* argument) {
  atomic_int* heirs = argument;
  const int error = pthread_mutex_lock(&mutexes[0]);
  if (error == EOWNERDEAD) {
    ++*heirs;
    EXPECT_OK(pthread_mutex_consistent(&mutexes[0]));
  } else {
    EXPECT_OK(error);
  }
  EXPECT_OK(pthread_mutex_unlock(&mutexes[0]));
  return NULL;
}

static void* hold_until_told(void* argument) {
  EXPECT_OK(pthread_mutex_lock(&mutexes[0]));
  owned = 1;
  AWAIT(*(atomic_int*)argument == 1);
  return NULL;
}

static void one_of_the_waiters_inherits(void) {
  make_robust(PTHREAD_PRIO_NONE);
  atomic_int heirs = 0, told = 0;
  owned = 0;
  const pthread_t owner = start_thread(hold_until_told, &told);
  AWAIT(owned == 1);
  pthread_t waiters[kThreads];
  for (int i = 0; i < kThreads; i++) waiters[i] = start_thread(wait_for_the_dead, &heirs);
  settle();
  told = 1;
  join_thread(owner);
  for (int i = 0; i < kThreads; i++) join_thread(waiters[i]);
  EXPECT_EQ(heirs, 1);
}

static void an_unhealed_mutex_is_lost(void) {
  make_robust(PTHREAD_PRIO_NONE);
  join_thread(start_thread(lock_all_and_end, (void*)0));
  EXPECT_EQ(pthread_mutex_lock(&mutexes[0]), EOWNERDEAD);
  EXPECT_OK(pthread_mutex_unlock(&mutexes[0]));
  EXPECT_EQ(pthread_mutex_lock(&mutexes[0]), ENOTRECOVERABLE);
  EXPECT_EQ(pthread_mutex_trylock(&mutexes[0]), ENOTRECOVERABLE);
  EXPECT_EQ(pthread_mutex_consistent(&mutexes[0]), EINVAL);
  EXPECT_OK(pthread_mutex_destroy(&mutexes[0]));
}

int main(void) {
  RUN(the_next_owner_heals);
  RUN(the_next_owner_heals_an_inheriting_one);
  RUN(one_of_the_waiters_inherits);
  RUN(an_unhealed_mutex_is_lost);
  return 0;
}
