// thread_churn.c - twenty thousand threads are created and joined, or created and detached.
// Checks pthread_create(3), pthread_join(3) "the target thread's exit status is copied" and
// pthread_detach(3) "its resources are automatically released": none fails for want of resources.
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>

#include "tests/programs/expect.h"

enum { kJoined = 10000, kDetached = 10000, kAlive = 20 };

static sem_t finished;

static void* add_one(void* argument) {
  return (void*)((intptr_t)argument + 1);
}

static void* post_finished(void* argument) {
  (void)argument;
  EXPECT_SYS(sem_post(&finished));
  return NULL;
}

static void join_in_waves(void) {
  long long sum = 0;
  for (int first = 0; first < kJoined; first += kAlive) {
    pthread_t threads[kAlive];
    for (int i = 0; i < kAlive; i++)
      threads[i] = start_thread(add_one, (void*)(intptr_t)(first + i));
    for (int i = 0; i < kAlive; i++) sum += (intptr_t)join_thread(threads[i]);
  }
  EXPECT_EQ(sum, (long long)kJoined * (kJoined + 1) / 2);
}

static void detach_in_waves(void) {
  pthread_attr_t detached;
  EXPECT_OK(pthread_attr_init(&detached));
  EXPECT_OK(pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED));
  EXPECT_SYS(sem_init(&finished, 0, 0));
  for (int started = 0; started < kDetached; started++) {
    if (started >= kAlive) EXPECT_SYS(sem_wait(&finished));
    pthread_t thread;
    if (started % 2 == 0) {
      EXPECT_OK(pthread_create(&thread, &detached, post_finished, NULL));
    } else {
      EXPECT_OK(pthread_detach(start_thread(post_finished, NULL)));
    }
  }
  for (int i = 0; i < kAlive; i++) EXPECT_SYS(sem_wait(&finished));
  EXPECT_ERRNO(sem_trywait(&finished), EAGAIN);
  EXPECT_OK(pthread_attr_destroy(&detached));
}

int main(void) {
  RUN(join_in_waves);
  RUN(detach_in_waves);
  return 0;
}
