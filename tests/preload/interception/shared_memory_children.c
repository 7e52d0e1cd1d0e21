// shared_memory_children.c - children that share our memory until they exec, from many threads.
// Rule 7: between vfork and exec the child runs on the parent's thread state and memory; the runtime
// must not schedule, or touch its own state, for a call that the child makes. Other threads go on
// meanwhile and check that their waits and counts stay right.
// Checks posix_spawn(3), vfork(2), popen(3), system(3) and the statuses of waitpid(2).
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

enum { kSpawners = 6, kChildren = 20, kWatchers = 4 };

extern char** environ;
static atomic_int children;
static atomic_bool stop;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counted;

static int status_of(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0) EXPECT_EQ(errno, EINTR);
  EXPECT(WIFEXITED(status));
  return WEXITSTATUS(status);
}

// With calls of its own in the child, which shares this thread's memory and its id.
__attribute__((noinline)) static pid_t vfork_and_exit(int status) {
  volatile pid_t seen = 0;
  const pid_t child = vfork();
  if (child == 0) {
    seen = (pid_t)syscall(SYS_getpid);
    syscall(SYS_sched_yield);
    _exit(status);
  }
  EXPECT_EQ(seen, child);
  return child;
}

static void* spawn(void* argument) {
  const int self = (int)(intptr_t)argument;
  for (int i = 0; i < kChildren; i++) {
    const int wanted = (self * kChildren + i) % 100;
    char text[32];
    pid_t child;
    snprintf(text, sizeof text, "exit %d", wanted);
    char* words[] = {"sh", "-c", text, NULL};
    switch (i % 4) {
      case 0:
        EXPECT_OK(posix_spawn(&child, "/bin/sh", NULL, NULL, words, environ));
        EXPECT_EQ(status_of(child), wanted);
        break;
      case 1:
        child = vfork_and_exit(wanted);
        EXPECT(child > 0);
        EXPECT_EQ(status_of(child), wanted);
        break;
      case 2:
        // posix_spawn(3): a program that is not there is the parent's error.
        EXPECT_EQ(posix_spawn(&child, "/nonexistent/program", NULL, NULL, words, environ), ENOENT);
        break;
      default: {
        FILE* output = popen(text, "r");
        EXPECT(output != NULL);
        EXPECT_EQ(fgetc(output), EOF);
        const int status = pclose(output);
        EXPECT(WIFEXITED(status));
        EXPECT_EQ(WEXITSTATUS(status), wanted);
      }
    }
    children++;
  }
  return NULL;
}

static void* count(void* argument) {
  (void)argument;
  for (long own = 0;; own++) {
    if (stop) return (void*)own;
    EXPECT_OK(pthread_mutex_lock(&lock));
    counted++;
    EXPECT_OK(pthread_mutex_unlock(&lock));
    sched_yield();
    if (own % 64 == 0) sleep_ms(1);
  }
}

static void children_do_not_disturb(void) {
  pthread_t spawners[kSpawners], watchers[kWatchers];
  for (int i = 0; i < kWatchers; i++) watchers[i] = start_thread(count, NULL);
  for (int i = 0; i < kSpawners; i++) spawners[i] = start_thread(spawn, (void*)(intptr_t)i);
  for (int i = 0; i < kSpawners; i++) join_thread(spawners[i]);
  stop = true;
  long sum = 0;
  for (int i = 0; i < kWatchers; i++) sum += (long)join_thread(watchers[i]);
  EXPECT_EQ(counted, sum);
  EXPECT_EQ(children, kSpawners * kChildren);
}

// The mask that a child inherits is its parent's, and the parent has it afterwards.
static void masks_are_inherited(void) {
  sigset_t all, kept;
  sigfillset(&all);
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, &all, &kept));
  char* words[] = {"sh", "-c", "kill -TERM $$; exit 4", NULL};
  pid_t child;
  EXPECT_OK(posix_spawn(&child, "/bin/sh", NULL, NULL, words, environ));
  EXPECT_EQ(status_of(child), 4);
  child = vfork_and_exit(5);
  EXPECT_EQ(status_of(child), 5);
  sigset_t now;
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, &kept, &now));
  EXPECT_EQ(sigismember(&now, SIGTERM), 1);
  EXPECT_EQ(sigismember(&now, SIGSYS), 1);
}

int main(void) {
  RUN(children_do_not_disturb);
  RUN(masks_are_inherited);
  return 0;
}
