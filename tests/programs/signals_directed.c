// signals_directed.c - signals sent to one thread, to the process, and taken by sigwait.
// Checks pthread_kill(3) "the signal is asynchronously directed to thread", pthread_sigmask(3)
// "each thread has its own signal mask", sigwait(3), sigtimedwait(2), sigqueue(3), sigpending(2),
// signal(7).
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 30, kRounds = 10 };

static atomic_int handled[kThreads];
static __thread int own_number = -1;
static atomic_int started;
static sem_t seen, gate;

static void install(int signal, void (*handler)(int), int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  EXPECT_EQ(sigemptyset(&action.sa_mask), 0);
  EXPECT_SYS(sigaction(signal, &action, NULL));
}

static void change_mask(int how, int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  EXPECT_OK(pthread_sigmask(how, &set, NULL));
}

// One sleep that a signal may cut short; sleep_ms() would go back to sleep.
static void doze(void) {
  const struct timespec time = timespec_from_ns(20 * kMs);
  nanosleep(&time, NULL);
}

static void note_own_number(int signal) {
  EXPECT_EQ(signal, SIGUSR1);
  // Only the thread that was meant runs this, so it sees its own variable.
  EXPECT(own_number >= 0);
  handled[own_number]++;
  EXPECT_SYS(sem_post(&seen));
}

static void* wait_for_signals(void* argument) {
  const int self = (int)(intptr_t)argument;
  own_number = self;
  started++;
  if (self % 3 == 0) {
    while (handled[self] < kRounds) sched_yield();
  } else if (self % 3 == 1) {
    while (handled[self] < kRounds) doze();
  } else {
    while (handled[self] < kRounds) sem_wait(&gate);
  }
  return NULL;
}

static void a_directed_signal_runs_on_its_thread(void) {
  EXPECT_SYS(sem_init(&seen, 0, 0));
  EXPECT_SYS(sem_init(&gate, 0, 0));
  install(SIGUSR1, note_own_number, 0);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++)
    threads[i] = start_thread(wait_for_signals, (void*)(intptr_t)i);
  AWAIT(started == kThreads);
  for (int round = 0; round < kRounds; round++) {
    for (int i = 0; i < kThreads; i++) EXPECT_OK(pthread_kill(threads[i], SIGUSR1));
    // Standard signals do not queue: the next round waits until each was handled.
    for (int i = 0; i < kThreads; i++) EXPECT_SYS(sem_wait(&seen));
  }
  // A thread may have begun to wait between its last look and the last signal; it is woken again.
  for (int i = 0; i < kThreads; i++) {
    while (pthread_tryjoin_np(threads[i], NULL) == EBUSY) {
      EXPECT_SYS(sem_post(&gate));
      sched_yield();
    }
    EXPECT_EQ(handled[i], kRounds);
  }
}

static void signal_zero_only_asks(void) {
  sem_t hold;
  EXPECT_SYS(sem_init(&hold, 0, 0));
  EXPECT_OK(pthread_kill(pthread_self(), 0));
  EXPECT_EQ(pthread_kill(pthread_self(), 1000), EINVAL);
  EXPECT_SYS(kill(getpid(), 0));
}

static atomic_int usr2_count;
static pthread_t usr2_thread;

static void count_usr2(int signal) {
  (void)signal;
  usr2_thread = pthread_self();
  usr2_count++;
}

static void a_blocked_signal_waits(void) {
  install(SIGUSR2, count_usr2, 0);
  change_mask(SIG_BLOCK, SIGUSR2);
  EXPECT_OK(pthread_kill(pthread_self(), SIGUSR2));
  sigset_t pending;
  EXPECT_SYS(sigpending(&pending));
  EXPECT_EQ(sigismember(&pending, SIGUSR2), 1);
  sleep_ms(1);
  EXPECT_EQ(usr2_count, 0);
  // POSIX: one pending unblocked signal is delivered before pthread_sigmask() returns.
  change_mask(SIG_UNBLOCK, SIGUSR2);
  EXPECT_EQ(usr2_count, 1);
  EXPECT(pthread_equal(usr2_thread, pthread_self()));
}

static void* inherit_mask(void* argument) {
  sigset_t mask;
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, NULL, &mask));
  EXPECT_EQ(sigismember(&mask, SIGUSR2), (intptr_t)argument);
  sigset_t pending;
  EXPECT_SYS(sigpending(&pending));
  EXPECT_EQ(sigismember(&pending, SIGUSR2), 0);
  return NULL;
}

static void masks_are_inherited_and_pending_signals_are_not(void) {
  change_mask(SIG_BLOCK, SIGUSR2);
  EXPECT_OK(pthread_kill(pthread_self(), SIGUSR2));
  join_thread(start_thread(inherit_mask, (void*)1));
  change_mask(SIG_UNBLOCK, SIGUSR2);
  join_thread(start_thread(inherit_mask, (void*)0));
}

static void* receive_process_signals(void* argument) {
  (void)argument;
  change_mask(SIG_UNBLOCK, SIGUSR2);
  started++;
  while (usr2_count < kRounds) doze();
  return NULL;
}

static void a_process_signal_finds_the_thread_that_takes_it(void) {
  install(SIGUSR2, count_usr2, 0);
  usr2_count = started = 0;
  const pthread_t taker = start_thread(receive_process_signals, NULL);
  AWAIT(started == 1);
  for (int round = 1; round <= kRounds; round++) {
    EXPECT_SYS(kill(getpid(), SIGUSR2));
    AWAIT(usr2_count == round);
    EXPECT(pthread_equal(usr2_thread, taker));
  }
  join_thread(taker);
}

static void* take_by_sigwait(void* argument) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigaddset(&set, SIGHUP);
  sigset_t* result = argument;
  sigemptyset(result);
  for (int i = 0; i < 2; i++) {
    int signal = 0;
    EXPECT_OK(sigwait(&set, &signal));
    sigaddset(result, signal);
  }
  return NULL;
}

static void sigwait_takes_process_signals(void) {
  change_mask(SIG_BLOCK, SIGHUP);
  sigset_t taken;
  const pthread_t waiter = start_thread(take_by_sigwait, &taken);
  EXPECT_SYS(kill(getpid(), SIGUSR2));
  EXPECT_OK(pthread_kill(waiter, SIGHUP));
  join_thread(waiter);
  EXPECT_EQ(sigismember(&taken, SIGUSR2), 1);
  EXPECT_EQ(sigismember(&taken, SIGHUP), 1);
}

static void sigtimedwait_times_out_or_gets_the_value(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  EXPECT_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  const struct timespec moment = timespec_from_ns(20 * kMs);
  const long long start = clock_ns(CLOCK_MONOTONIC);
  siginfo_t info;
  EXPECT_ERRNO(sigtimedwait(&set, &info, &moment), EAGAIN);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 20 * kMs);
  // Real-time signals queue, in order, each with its value.
  for (int i = 1; i <= 3; i++) {
    EXPECT_OK(pthread_sigqueue(pthread_self(), SIGRTMIN, (union sigval){.sival_int = 100 + i}));
  }
  for (int i = 1; i <= 3; i++) {
    EXPECT_EQ(sigwaitinfo(&set, &info), SIGRTMIN);
    EXPECT_EQ(info.si_value.sival_int, 100 + i);
    EXPECT_EQ(info.si_code, SI_QUEUE);
    EXPECT_EQ(info.si_pid, getpid());
  }
}

static void* signal_until_told(void* argument) {
  while (usr2_count == 0) {
    EXPECT_OK(pthread_kill(*(pthread_t*)argument, SIGUSR2));
    sleep_ms(1);
  }
  return NULL;
}

static void sigsuspend_waits_with_another_mask(void) {
  install(SIGUSR2, count_usr2, 0);
  usr2_count = 0;
  pthread_t self = pthread_self();
  sigset_t before, during;
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, NULL, &before));
  EXPECT_EQ(sigismember(&before, SIGUSR2), 1);
  during = before;
  sigdelset(&during, SIGUSR2);
  const pthread_t sender = start_thread(signal_until_told, &self);
  EXPECT_ERRNO(sigsuspend(&during), EINTR);
  EXPECT(usr2_count >= 1);
  join_thread(sender);
  sigset_t after;
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, NULL, &after));
  EXPECT_EQ(sigismember(&after, SIGUSR2), 1);
}

int main(void) {
  RUN(a_directed_signal_runs_on_its_thread);
  RUN(signal_zero_only_asks);
  RUN(a_blocked_signal_waits);
  RUN(masks_are_inherited_and_pending_signals_are_not);
  // From here on the first thread, and those that inherit its mask, take no process signals.
  change_mask(SIG_BLOCK, SIGUSR2);
  RUN(a_process_signal_finds_the_thread_that_takes_it);
  change_mask(SIG_BLOCK, SIGHUP);
  RUN(sigwait_takes_process_signals);
  RUN(sigtimedwait_times_out_or_gets_the_value);
  RUN(sigsuspend_waits_with_another_mask);
  return 0;
}
