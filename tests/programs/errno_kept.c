// errno_kept.c - errno belongs to the thread, whatever the other threads do while it waits.
// Checks errno(3) "errno is thread-local; setting it in one thread does not affect its value in any
// other thread": each thread fails in its own way between yields, sleeps and blocking reads.
// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include "tests/programs/expect.h"

enum { kThreads = 96, kRounds = 60 };

static int fail_with_enoent(void) {
  return open("/nonexistent/file", O_RDONLY);
}
static int fail_with_ebadf(void) {
  return (int)read(-1, NULL, 0);
}
static int fail_with_einval(void) {
  return (int)lseek(0, 0, 99);
}
static int fail_with_enotdir(void) {
  return chdir("/dev/null");
}
static int fail_with_espipe(void) {
  static __thread int ends[2];
  if (ends[1] == 0) EXPECT_SYS(pipe(ends));
  return (int)lseek(ends[0], 0, SEEK_SET);
}
static int fail_with_eagain(void) {
  static __thread int ends[2];
  if (ends[1] == 0) EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  char byte;
  return (int)recv(ends[0], &byte, 1, MSG_DONTWAIT);
}
static int fail_with_eafnosupport(void) {
  return socket(99, SOCK_STREAM, 0);
}
static int fail_with_enosys(void) {
  return (int)syscall(4000);
}

static const struct {
  int (*fail)(void);
  int code;
} kWays[] = {
    {fail_with_enoent, ENOENT},
    {fail_with_ebadf, EBADF},
    {fail_with_einval, EINVAL},
    {fail_with_enotdir, ENOTDIR},
    {fail_with_espipe, ESPIPE},
    {fail_with_eagain, EAGAIN},
    {fail_with_eafnosupport, EAFNOSUPPORT},
    {fail_with_enosys, ENOSYS},
};
enum { kWayCount = sizeof kWays / sizeof kWays[0] };

static void* fail_and_wait(void* argument) {
  const int self = (int)(intptr_t)argument;
  const int way = self % kWayCount;
  int ends[2];
  EXPECT_SYS(pipe(ends));
  for (int round = 0; round < kRounds; round++) {
    EXPECT_EQ(kWays[way].fail(), -1);
    // Calls that succeed leave errno alone, also when they block.
    switch (round % 4) {
      case 0:
        sched_yield();
        break;
      case 1: {
        const struct timespec pause_time = {0, 100000};
        nanosleep(&pause_time, NULL);
        break;
      }
      case 2: {
        char byte = 'x';
        if (write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1) abort();
        break;
      }
      default:
        usleep(1);
    }
    EXPECT_EQ(errno, kWays[way].code);
  }
  EXPECT_SYS(close(ends[0]));
  EXPECT_SYS(close(ends[1]));
  return &errno;
}

int main(void) {
  pthread_t threads[kThreads];
  errno = 0;
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(fail_and_wait, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) EXPECT(join_thread(threads[i]) != (void*)&errno);
  EXPECT_EQ(errno, 0);
  say("%d threads failed %d times each in %d ways\n", kThreads, kRounds, (int)kWayCount);
  return 0;
}
