// raw_code.c - system calls in memory that no patcher sees: code made at run time.
// Natively it just works. Under weft's dispatch mode it must work as well, with every thread on one
// worker: the calls wait, start a thread's life (clone is libc's) and return like any other. Under
// the audit each address is named. The argument `short` leaves the waits out.
// Checks the same answers as through libc.
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

enum { kThreads = 8, kRounds = 50 };

// mov rax, rdi; mov rdi, rsi; mov rsi, rdx; mov rdx, rcx; mov r10, r8; syscall; ret
static const unsigned char kCode[] = {0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6, 0x48,
                                      0x89, 0xca, 0x4d, 0x89, 0xc2, 0x0f, 0x05, 0xc3};

typedef long (*RawCall)(long number, ...);
static RawCall raw_call;

static void make_code(void) {
  char* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(page != MAP_FAILED);
  memcpy(page, kCode, sizeof kCode);
  EXPECT_SYS(mprotect(page, 4096, PROT_READ | PROT_EXEC));
  *(void**)&raw_call = page;
}

static int ends[2];

static void* read_raw(void* argument) {
  (void)argument;
  long sum = 0;
  for (int i = 0; i < kRounds; i++) {
    unsigned char byte = 0;
    EXPECT_EQ(raw_call(SYS_read, (long)ends[0], &byte, 1L), 1);
    sum += byte;
    EXPECT_EQ(raw_call(SYS_gettid), syscall(SYS_gettid));
  }
  return (void*)sum;
}

static void many_threads_wait_in_raw_code(void) {
  EXPECT_SYS(pipe(ends));
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(read_raw, NULL);
  settle();
  for (int i = 0; i < kThreads * kRounds; i++) {
    const unsigned char byte = 1;
    EXPECT_EQ(raw_call(SYS_write, (long)ends[1], &byte, 1L), 1);
    if (i % 16 == 0) sched_yield();
  }
  long sum = 0;
  for (int i = 0; i < kThreads; i++) sum += (long)join_thread(threads[i]);
  EXPECT_EQ(sum, kThreads * kRounds);
  EXPECT_SYS(close(ends[0]));
  EXPECT_SYS(close(ends[1]));
}

static void raw_errors_are_the_kernels(void) {
  char byte;
  EXPECT_EQ(raw_call(SYS_read, -1L, &byte, 1L), -EBADF);
  EXPECT_EQ(raw_call(100000L), -ENOSYS);
}

static void a_raw_sleep_lasts(void) {
  const long long start = clock_ns(CLOCK_MONOTONIC);
  struct timespec pause_time = timespec_from_ns(5 * kMs);
  EXPECT_EQ(raw_call(SYS_nanosleep, &pause_time, NULL), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 5 * kMs);
}

static void a_raw_fork_is_a_process(void) {
  const long child = raw_call(SYS_fork);
  EXPECT(child >= 0);
  if (child == 0) {
    // Threads of its own in the child of a process with threads.
    make_code();
    EXPECT_EQ((intptr_t)join_thread(start_thread(read_raw, NULL)), kRounds);
    _exit(9);
  }
  int status;
  EXPECT_EQ(raw_call(SYS_wait4, child, &status, 0L, NULL), child);
  EXPECT(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 9);
}

static void fork_with_bytes_to_read(void) {
  EXPECT_SYS(pipe(ends));
  for (int i = 0; i < kRounds; i++) {
    const unsigned char byte = 1;
    EXPECT_EQ(write(ends[1], &byte, 1), 1);
  }
  a_raw_fork_is_a_process();
}

int main(int argc, char** argv) {
  make_code();
  if (argc == 2 && strcmp(argv[1], "short") == 0) {
    RUN(raw_errors_are_the_kernels);
    return 0;
  }
  RUN(many_threads_wait_in_raw_code);
  RUN(raw_errors_are_the_kernels);
  RUN(a_raw_sleep_lasts);
  RUN(fork_with_bytes_to_read);
  return 0;
}
