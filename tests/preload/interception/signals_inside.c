// signals_inside.c - signals that arrive while threads are in system calls, each counted.
// Rule 6: a signal that finds the runtime running is only noted, and looked at on the way out; the
// handler itself makes calls that wait. Real-time signals queue (signal(7)), so not one may be lost
// or doubled: those sent to a thread and those sent to the process.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

enum { kThreads = 8, kSignals = 400, kProcessSignals = 400 };

static atomic_int to_threads;
static atomic_int to_process;
static atomic_long value_sum;
static atomic_bool stop;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ends[2];

static void on_signal(int number, siginfo_t* info, void* context) {
  (void)context;
  const int kept = errno;
  char byte = 's';
  // Calls in a handler: one that wakes others, one that lets them run.
  if (write(ends[1], &byte, 1) != 1 && errno != EAGAIN) _exit(3);
  sched_yield();
  if (number == SIGRTMIN) {
    to_threads++;
  } else {
    to_process++;
    value_sum += info->si_value.sival_int;
  }
  errno = kept;
}

static void* call_all_the_time(void* argument) {
  char byte;
  (void)argument;
  while (!stop) {
    syscall(SYS_gettid);
    EXPECT_OK(pthread_mutex_lock(&lock));
    sched_yield();
    EXPECT_OK(pthread_mutex_unlock(&lock));
    // Restarted, interrupted or empty: all the same here.
    if (read(ends[0], &byte, 1) < 0) EXPECT(errno == EAGAIN || errno == EINTR);
    const struct timespec moment = timespec_from_ns(20000);
    nanosleep(&moment, NULL);
  }
  return NULL;
}

static void every_signal_is_handled_once(void) {
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  EXPECT_SYS(sigaction(SIGRTMIN, &action, NULL));
  EXPECT_SYS(sigaction(SIGRTMIN + 1, &action, NULL));
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(call_all_the_time, NULL);
  for (int i = 0; i < kSignals; i++) {
    EXPECT_OK(pthread_kill(threads[i % kThreads], SIGRTMIN));
    if (i % 16 == 0) sched_yield();
  }
  for (int i = 0; i < kProcessSignals; i++) {
    EXPECT_SYS(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}));
    if (i % 16 == 0) sched_yield();
  }
  AWAIT(to_threads == kSignals && to_process == kProcessSignals);
  stop = true;
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT_EQ(to_threads, kSignals);
  EXPECT_EQ(value_sum, (long)kProcessSignals * (kProcessSignals - 1) / 2);
}

int main(void) {
  EXPECT_SYS(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
  RUN(every_signal_is_handled_once);
  return 0;
}
