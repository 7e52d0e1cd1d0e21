// threads_until_failure.c - starts threads until the system has no more memory or mappings for one.
// Checks pthread_create(3): EAGAIN, and nothing else happens: those that live go on, end, and are
// joined; afterwards as many threads as before can be started. The limit is the caller's.
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kMost = 100000, kFewest = 4 };

static pthread_t threads[kMost];
static sem_t go_on;
static atomic_int answers;

static void* wait_and_answer(void* argument) {
  (void)argument;
  while (sem_wait(&go_on) != 0) EXPECT_EQ(errno, EINTR);
  answers++;
  return NULL;
}

// Returns how many could be started, and what the next one failed with.
static int fill(int* error) {
  int count = 0;
  while (count < kMost) {
    *error = pthread_create(&threads[count], NULL, wait_and_answer, NULL);
    if (*error != 0) break;
    count++;
  }
  return count;
}

static void drain(int count) {
  answers = 0;
  for (int i = 0; i < count; i++) EXPECT_SYS(sem_post(&go_on));
  for (int i = 0; i < count; i++) join_thread(threads[i]);
  EXPECT_EQ(answers, count);
}

int main(void) {
  EXPECT_SYS(sem_init(&go_on, 0, 0));
  int error = 0;
  const int first = fill(&error);
  EXPECT_EQ(error, EAGAIN);
  EXPECT(first >= kFewest);
  drain(first);
  const int second = fill(&error);
  EXPECT_EQ(error, EAGAIN);
  EXPECT(second >= kFewest && second >= first / 2);
  drain(second);
  say("refused with EAGAIN, and nothing was lost\n");
  return 0;
}
