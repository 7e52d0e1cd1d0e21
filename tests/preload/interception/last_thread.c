// last_thread.c - the process ends when its last thread does, whichever that is.
// Rule 8: libc counts the threads that it made; if the runtime's own were among them the count would
// never reach zero. The argument names the way.
// Checks pthread_exit(3): "After the last thread in a process terminates, the process terminates as
// by calling exit(3) with an exit status of zero".
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 12 };

static pthread_t first;
static atomic_int left = kThreads;
static atomic_int first_is_gone;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void say_at_exit(void) {
  say("exit handlers run, %d threads are left\n", (int)left);
}

// One of the threads joins the first, for all.
static void* end_in_turn(void* argument) {
  if (argument != NULL) {
    EXPECT_EQ((intptr_t)join_thread(first), 7);
    first_is_gone = 1;
  }
  AWAIT(first_is_gone);
  left--;
  return NULL;
}

// Those that wait for ever keep the process alive; exit() by one of them ends it all the same.
static void* wait_for_ever(void* argument) {
  if (argument == NULL) EXPECT_OK(pthread_mutex_lock(&lock));
  EXPECT_EQ((intptr_t)join_thread(first), 7);
  exit(0);
}

static void leave_main(void* (*body)(void*)) {
  first = pthread_self();
  for (int i = 0; i < kThreads; i++) {
    const pthread_t thread = start_thread(body, i == 0 ? &first : NULL);
    // Joined by nobody: one of them will be the last.
    if (i % 2 == 0) EXPECT_OK(pthread_detach(thread));
  }
  pthread_exit((void*)7);
}

int main(int argc, char** argv) {
  EXPECT_EQ(argc, 2);
  EXPECT_EQ(atexit(say_at_exit), 0);
  if (strcmp(argv[1], "all_end") == 0) leave_main(end_in_turn);
  if (strcmp(argv[1], "exit_by_one") == 0) {
    left = 0;
    EXPECT_OK(pthread_mutex_lock(&lock));
    leave_main(wait_for_ever);
  }
  return 64;
}
