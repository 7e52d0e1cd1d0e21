// file_locks.c - waiting for file locks: flock, fcntl record locks, open file description locks.
// Checks flock(2) "EWOULDBLOCK", fcntl(2) F_SETLKW, F_OFD_SETLKW and F_GETLK, lockf(3): between
// threads with descriptions of their own, and between a process and its child.
// SPDX-License-Identifier: Apache-2.0
#include <sys/file.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

enum { kThreads = 8, kRounds = 40 };

static char path[kPathMax];
static int counter;

static int open_again(void) {
  return (int)EXPECT_SYS(open(path, O_RDWR | O_CLOEXEC));
}

static void set_lock(int fd, int command, short type) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
  EXPECT_SYS(fcntl(fd, command, &lock));
}

static void* count_under_flock(void* argument) {
  const int fd = open_again();
  for (int i = 0; i < kRounds; i++) {
    EXPECT_SYS(flock(fd, LOCK_EX));
    const int seen = counter;
    sched_yield();
    counter = seen + 1;
    EXPECT_SYS(flock(fd, LOCK_UN));
  }
  EXPECT_SYS(close(fd));
  return argument;
}

static void* count_under_ofd_lock(void* argument) {
  const int fd = open_again();
  for (int i = 0; i < kRounds; i++) {
    set_lock(fd, F_OFD_SETLKW, F_WRLCK);
    const int seen = counter;
    sched_yield();
    counter = seen + 1;
    set_lock(fd, F_OFD_SETLKW, F_UNLCK);
  }
  EXPECT_SYS(close(fd));
  return argument;
}

static void expect_exclusion(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  counter = 0;
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(body, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT_EQ(counter, kThreads * kRounds);
}

static void flock_excludes_threads(void) {
  expect_exclusion(count_under_flock);
  const int first = open_again(), second = open_again();
  EXPECT_SYS(flock(first, LOCK_SH));
  EXPECT_SYS(flock(second, LOCK_SH));
  EXPECT_ERRNO(flock(second, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  EXPECT_SYS(close(first));
  // A shared lock that becomes exclusive, now that the other description is gone.
  EXPECT_SYS(flock(second, LOCK_EX | LOCK_NB));
  EXPECT_SYS(close(second));
}

static void ofd_locks_exclude_threads(void) {
  expect_exclusion(count_under_ofd_lock);
  const int first = open_again(), second = open_again();
  set_lock(first, F_OFD_SETLK, F_WRLCK);
  struct flock wanted = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
  EXPECT_ERRNO(fcntl(second, F_OFD_SETLK, &wanted), EAGAIN);
  EXPECT_SYS(fcntl(second, F_OFD_GETLK, &wanted));
  EXPECT_EQ(wanted.l_type, F_WRLCK);
  EXPECT_EQ(wanted.l_pid, -1);
  EXPECT_SYS(close(first));
  EXPECT_SYS(close(second));
}

static void record_locks_wait_for_the_other_process(void) {
  int told[2], status = 0;
  char byte;
  const int fd = open_again();
  EXPECT_SYS(pipe(told));
  set_lock(fd, F_SETLK, F_WRLCK);
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    EXPECT_SYS(fcntl(fd, F_GETLK, &lock));
    EXPECT_EQ(lock.l_pid, getppid());
    EXPECT_EQ(write(told[1], "w", 1), 1);
    set_lock(fd, F_SETLKW, F_WRLCK);
    EXPECT_EQ(pread(fd, &byte, 1, 0), 1);
    EXPECT_EQ(byte, 'p');
    _exit(0);
  }
  EXPECT_EQ(read(told[0], &byte, 1), 1);
  settle();
  EXPECT_EQ(pwrite(fd, "p", 1, 0), 1);
  set_lock(fd, F_SETLK, F_UNLCK);
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_SYS(lockf(fd, F_LOCK, 10));
  EXPECT_SYS(lockf(fd, F_ULOCK, 10));
  EXPECT_SYS(close(fd));
}

static void an_ended_process_leaves_no_lock(void) {
  int told[2];
  char byte;
  EXPECT_SYS(pipe(told));
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    const int fd = open_again();
    EXPECT_SYS(flock(fd, LOCK_EX));
    set_lock(fd, F_SETLK, F_WRLCK);
    EXPECT_EQ(write(told[1], "l", 1), 1);
    settle();
    _exit(0);
  }
  const int fd = open_again();
  EXPECT_EQ(read(told[0], &byte, 1), 1);
  EXPECT_SYS(flock(fd, LOCK_EX));
  set_lock(fd, F_SETLKW, F_WRLCK);
  EXPECT_EQ(waitpid(child, NULL, 0), child);
  EXPECT_SYS(close(fd));
}

int main(void) {
  temporary_template(path);
  EXPECT_SYS(close((int)EXPECT_SYS(mkostemp(path, O_CLOEXEC))));
  RUN(flock_excludes_threads);
  RUN(ofd_locks_exclude_threads);
  RUN(record_locks_wait_for_the_other_process);
  RUN(an_ended_process_leaves_no_lock);
  EXPECT_SYS(unlink(path));
  return 0;
}
