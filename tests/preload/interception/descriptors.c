// descriptors.c - the program's descriptor table holds nothing but the program's.
// Lists /proc/self/fd before and after threads start, opens files that must get the lowest numbers
// (open(2): "the lowest-numbered file descriptor not currently open"), closes everything from 3 on
// with close_range(2), and goes on waiting, sleeping and forking.
// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

enum { kThreads = 20 };

static void say_descriptors(const char* when) {
  DIR* folder = opendir("/proc/self/fd");
  EXPECT(folder != NULL);
  char text[400];
  int length = 0;
  for (struct dirent* entry; (entry = readdir(folder)) != NULL;) {
    const int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(folder)) continue;
    length += snprintf(text + length, sizeof text - (size_t)length, " %d", fd);
  }
  EXPECT_EQ(closedir(folder), 0);
  say("%s:%.*s\n", when, length, text);
}

static int start_end[2];
static atomic_int arrived;

static void* wait_for_start(void* argument) {
  (void)argument;
  char byte;
  arrived++;
  EXPECT_EQ(read(start_end[0], &byte, 1), 1);
  sleep_ms(1);
  return NULL;
}

static void use_threads(void) {
  EXPECT_SYS(pipe(start_end));
  say("a pipe is %d and %d\n", start_end[0], start_end[1]);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(wait_for_start, NULL);
  AWAIT(arrived == kThreads);
  char bytes[kThreads] = {0};
  EXPECT_EQ(write(start_end[1], bytes, kThreads), kThreads);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  arrived = 0;
  EXPECT_SYS(close(start_end[0]));
  EXPECT_SYS(close(start_end[1]));
}

int main(void) {
  // Whatever the runner left open is not the subject.
  EXPECT_SYS(syscall(SYS_close_range, 3U, ~0U, 0U));
  say_descriptors("at the start");
  use_threads();
  say_descriptors("with threads");
  const int file = open("/dev/null", O_RDONLY);
  const int copy = dup(file);
  say("the lowest are %d and %d\n", file, copy);
  EXPECT_SYS(syscall(SYS_close_range, 3U, ~0U, 0U));
  say_descriptors("after close_range");
  use_threads();
  const pid_t child = fork();
  if (child == 0) {
    EXPECT_SYS(syscall(SYS_close_range, 3U, ~0U, 0U));
    use_threads();
    say_descriptors("in a child");
    _exit(0);
  }
  int status;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  use_threads();
  say_descriptors("at the end");
  return 0;
}
