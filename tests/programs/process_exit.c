// process_exit.c - the ways in which a process with threads ends; the argument names the way.
// Checks exit(3) "all open stdio streams are flushed", pthread_exit(3) "the process's exit status
// is zero" after the last thread, _exit(2) "terminates the calling process immediately", abort(3)
// and signal(7) defaults; other threads are blocked in reads and waits while it happens.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

enum { kThreads = 20 };

static atomic_int blocked;
static pthread_mutex_t never_free = PTHREAD_MUTEX_INITIALIZER;

static void* block_for_ever(void* argument) {
  int ends[2];
  char byte;
  blocked++;
  switch ((intptr_t)argument % 4) {
    case 0:
      EXPECT_SYS(pipe(ends));
      return (void*)read(ends[0], &byte, 1);
    case 1:
      return (void*)(intptr_t)pthread_mutex_lock(&never_free);
    case 2:
      for (;;) pause();
    default:
      for (;;) sleep(1000);
  }
}

static void block_other_threads(void) {
  EXPECT_OK(pthread_mutex_lock(&never_free));
  for (int i = 0; i < kThreads; i++) start_thread(block_for_ever, (void*)(intptr_t)i);
  AWAIT(blocked == kThreads);
  settle();
}

static void say_at_exit(void) {
  say("the exit handler runs\n");
}

static void* outlive_the_first_thread(void* argument) {
  // Waits until the first thread is gone, then shows that the process still works.
  join_thread(*(pthread_t*)argument);
  say("the last thread ends\n");
  return NULL;
}

static void* exit_with_seven(void* argument) {
  (void)argument;
  printf("flushed by exit\n");
  exit(7);
}

static void* underscore_exit_with_eight(void* argument) {
  (void)argument;
  printf("never flushed\n");
  _exit(8);
}

static void* exit_group_with_nine(void* argument) {
  (void)argument;
  syscall(SYS_exit_group, 9);
  return NULL;
}

static void* abort_now(void* argument) {
  (void)argument;
  abort();
}

static void* terminate_now(void* argument) {
  (void)argument;
  EXPECT_SYS(kill(getpid(), SIGTERM));
  for (;;) pause();
  return NULL;
}

static void* fault_now(void* argument) {
  (void)argument;
  static volatile int* volatile nowhere;
  *nowhere = 1;
  return NULL;
}

static const struct {
  const char* name;
  void* (*body)(void*);
} kEndingThreads[] = {
    {"exit_in_thread", exit_with_seven},
    {"underscore_exit_in_thread", underscore_exit_with_eight},
    {"exit_group_in_thread", exit_group_with_nine},
    {"abort_in_thread", abort_now},
    {"sigterm_in_thread", terminate_now},
    {"fault_in_thread", fault_now},
};

int main(int count, char** arguments) {
  const char* way = count == 2 ? arguments[1] : "return_from_main";
  // Only the way to end matters here: no core files.
  const struct rlimit no_core = {0, 0};
  EXPECT_SYS(setrlimit(RLIMIT_CORE, &no_core));
  EXPECT_EQ(atexit(say_at_exit), 0);
  if (strcmp(way, "pthread_exit_in_main") == 0) {
    static pthread_t self;
    self = pthread_self();
    start_thread(outlive_the_first_thread, &self);
    pthread_exit(NULL);
  }
  block_other_threads();
  if (strcmp(way, "return_from_main") == 0) {
    printf("flushed by return\n");
    return 5;
  }
  for (size_t i = 0; i < sizeof kEndingThreads / sizeof kEndingThreads[0]; i++) {
    if (strcmp(way, kEndingThreads[i].name) == 0) {
      join_thread(start_thread(kEndingThreads[i].body, NULL));
    }
  }
  expect_failed(__FILE__, __LINE__, "no such way to end: %s", way);
}
