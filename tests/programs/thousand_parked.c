// thousand_parked.c - a thousand threads blocked at once in each way, then released together.
// Checks pthread_cond_broadcast (POSIX: "unblock all threads currently blocked"), sem_post(3),
// read(2) on a pipe, pthread_barrier_wait and pthread_join(3) with a thousand threads alive.
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 1000, kStackBytes = 64 * 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t permits;
static int ends[2], gate_open;
static atomic_int waiting, through;

static void* wait_in_every_way(void* argument) {
  char byte = 0;
  EXPECT_OK(pthread_mutex_lock(&lock));
  waiting++;
  while (!gate_open) EXPECT_OK(pthread_cond_wait(&opened, &lock));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  through++;
  EXPECT_SYS(sem_wait(&permits));
  through++;
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'r');
  through++;
  pthread_barrier_wait(&barrier);
  return argument;
}

int main(void) {
  static pthread_t threads[kThreads];
  static char bytes[kThreads];
  pthread_attr_t attributes;
  EXPECT_OK(pthread_attr_init(&attributes));
  EXPECT_OK(pthread_attr_setstacksize(&attributes, kStackBytes));
  EXPECT_OK(pthread_barrier_init(&barrier, NULL, kThreads + 1));
  EXPECT_SYS(sem_init(&permits, 0, 0));
  EXPECT_SYS(pipe(ends));
  for (intptr_t i = 0; i < kThreads; i++) {
    const int error = pthread_create(&threads[i], &attributes, wait_in_every_way, (void*)i);
    if (error == EAGAIN) skip("this system does not allow a thousand threads");
    EXPECT_OK(error);
  }
  AWAIT(waiting == kThreads);
  EXPECT_EQ(through, 0);
  EXPECT_OK(pthread_mutex_lock(&lock));
  gate_open = 1;
  EXPECT_OK(pthread_cond_broadcast(&opened));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  AWAIT(through == kThreads);
  say("%d threads passed the condition\n", kThreads);
  for (int i = 0; i < kThreads; i++) EXPECT_SYS(sem_post(&permits));
  AWAIT(through == 2 * kThreads);
  say("%d threads passed the semaphore\n", kThreads);
  memset(bytes, 'r', sizeof bytes);
  EXPECT_EQ(write(ends[1], bytes, sizeof bytes), kThreads);
  AWAIT(through == 3 * kThreads);
  say("%d threads read from the pipe\n", kThreads);
  pthread_barrier_wait(&barrier);
  long long sum = 0;
  for (int i = 0; i < kThreads; i++) sum += (intptr_t)join_thread(threads[i]);
  EXPECT_EQ(sum, (long long)kThreads * (kThreads - 1) / 2);
  say("%d threads joined\n", kThreads);
  return 0;
}
