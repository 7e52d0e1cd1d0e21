// signal_storm.c - signals from every side while threads compute, wait, jump and end.
// Checks signal(7): a real-time signal is never lost and keeps its sender's order, SA_RESTART hides
// what interrupts a read; sigaction(2), sigwaitinfo(2), sigaltstack(2), pthread_sigqueue(3), POSIX
// kill ("at least one signal is delivered before kill returns"), PTHREAD_CANCEL_ASYNCHRONOUS.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

#include "tests/programs/expect.h"

enum { kThreads = 6, kRounds = 200, kStackBytes = 64 * 1024 };

static void handle(int signal, int flags, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  EXPECT_SYS(sigaction(signal, &action, NULL));
}

static void change_mask(int how, int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  EXPECT_OK(pthread_sigmask(how, &set, NULL));
}

// A timer that signals the process for as long as the subject runs.
static void start_storm(int microseconds) {
  const struct itimerval every = {{0, microseconds}, {0, microseconds}};
  EXPECT_SYS(setitimer(ITIMER_REAL, &every, NULL));
}
static void end_storm(void) {
  const struct itimerval never = {{0, 0}, {0, 0}};
  EXPECT_SYS(setitimer(ITIMER_REAL, &never, NULL));
}

static atomic_int alarms, workers_left;
static __thread volatile sig_atomic_t own_alarms;

static void count_alarm(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
  // A handler may make calls, and they must not disturb the ones that it interrupted.
  const int error = errno;
  sched_yield();
  errno = error;
  own_alarms++;
  alarms++;
}

static void* compute(void* argument) {
  for (int i = 0; i < kRounds; i++) {
    double sum = 0.25;
    long steps = 0;
    for (int k = 0; k < 20000; k++) {
      sum += 0.5;
      steps += k;
    }
    // The registers are the thread's own, whatever ran in between.
    EXPECT(sum == 10000.25);
    EXPECT_EQ(steps, 199990000);
  }
  workers_left--;
  return argument;
}

static void* read_and_write(void* argument) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  char sent[100], received[100];
  for (int i = 0; i < kRounds; i++) {
    memset(sent, i, sizeof sent);
    EXPECT_EQ(write(ends[1], sent, sizeof sent), (long)sizeof sent);
    EXPECT_EQ(read(ends[0], received, sizeof received), (long)sizeof received);
    EXPECT_EQ(memcmp(sent, received, sizeof sent), 0);
  }
  EXPECT_SYS(close(ends[0]));
  EXPECT_SYS(close(ends[1]));
  workers_left--;
  return argument;
}

static void* sleep_and_poll(void* argument) {
  for (int i = 0; i < 20; i++) {
    const int before = own_alarms;
    const long long start = clock_ns(CLOCK_MONOTONIC);
    const int result = i % 2 == 0 ? poll(NULL, 0, 5) : usleep(5000);
    if (result == 0) {
      EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 5 * kMs);
    } else {
      // Only a handler of this thread interrupts it.
      EXPECT_EQ(errno, EINTR);
      EXPECT(own_alarms != before);
    }
  }
  workers_left--;
  return argument;
}

static void work_goes_on_under_a_storm(void) {
  void* (*const bodies[])(void*) = {compute, read_and_write, sleep_and_poll};
  pthread_t threads[kThreads];
  workers_left = kThreads;
  alarms = 0;
  handle(SIGALRM, SA_RESTART, count_alarm);
  start_storm(500);
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(bodies[i % 3], NULL);
  AWAIT(workers_left == 0 && alarms > 0);
  end_storm();
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static atomic_int received_total;
static __thread int next_value[kThreads];

// The value tells the sender and its count.
static void take_in_order(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  const int sender = info->si_value.sival_int % kThreads;
  EXPECT_EQ(info->si_code, SI_QUEUE);
  EXPECT_EQ(info->si_pid, getpid());
  EXPECT_EQ(info->si_value.sival_int / kThreads, next_value[sender]);
  next_value[sender]++;
  received_total++;
}

static pthread_t storm_threads[kThreads];
static pthread_barrier_t all_there;

static void* send_to_the_others(void* argument) {
  const int self = (int)(intptr_t)argument;
  pthread_barrier_wait(&all_there);
  for (int i = 0; i < kRounds; i++) {
    for (int to = 0; to < kThreads; to++) {
      const union sigval value = {.sival_int = i * kThreads + self};
      int error;
      // EAGAIN: as many as RLIMIT_SIGPENDING allows wait already.
      while ((error = pthread_sigqueue(storm_threads[to], SIGRTMIN, value)) == EAGAIN) {
        sched_yield();
      }
      EXPECT_OK(error);
    }
    if (i % 16 == 0) sleep_ms(1);
  }
  AWAIT(received_total == kThreads * kThreads * kRounds);
  pthread_barrier_wait(&all_there);
  return NULL;
}

static void queued_signals_come_once_and_in_order(void) {
  handle(SIGRTMIN, SA_RESTART, take_in_order);
  received_total = 0;
  EXPECT_OK(pthread_barrier_init(&all_there, NULL, kThreads + 1));
  for (int i = 0; i < kThreads; i++) {
    storm_threads[i] = start_thread(send_to_the_others, (void*)(intptr_t)i);
  }
  pthread_barrier_wait(&all_there);
  pthread_barrier_wait(&all_there);
  for (int i = 0; i < kThreads; i++) join_thread(storm_threads[i]);
  EXPECT_OK(pthread_barrier_destroy(&all_there));
}

static void* wait_for_all(void* argument) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  siginfo_t info;
  for (int i = 0; i < kRounds; i++) {
    long signal;
    while ((signal = sigwaitinfo(&set, &info)) < 0) EXPECT_EQ(errno, EINTR);
    EXPECT_EQ(signal, SIGRTMIN + 1);
    EXPECT_EQ(info.si_value.sival_int, i);
  }
  return argument;
}

static void one_thread_waits_for_the_process(void) {
  const pthread_t waiter = start_thread(wait_for_all, NULL);
  for (int i = 0; i < kRounds; i++) {
    const union sigval value = {.sival_int = i};
    EXPECT_SYS(sigqueue(getpid(), SIGRTMIN + 1, value));
    if (i % 8 == 0) sched_yield();
  }
  join_thread(waiter);
}

static __thread volatile sig_atomic_t own_hits;

static void count_own(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
  own_hits++;
}

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void* kill_own_process(void* argument) {
  for (int i = 0; i < 50; i++) {
    EXPECT_OK(pthread_mutex_lock(&one_at_a_time));
    // The only thread that does not block it: handled before kill() returns.
    change_mask(SIG_UNBLOCK, SIGUSR1);
    const int before = own_hits;
    EXPECT_SYS(kill(getpid(), SIGUSR1));
    EXPECT_EQ(own_hits, before + 1);
    change_mask(SIG_BLOCK, SIGUSR1);
    EXPECT_OK(pthread_mutex_unlock(&one_at_a_time));
    if (i % 10 == 0) sched_yield();
  }
  return argument;
}

static void kill_returns_after_the_handler(void) {
  handle(SIGUSR1, 0, count_own);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(kill_own_process, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static __thread sigjmp_buf landing;
static __thread char* alternate;
static __thread volatile sig_atomic_t may_jump;

static void jump_away(int signal, siginfo_t* info, void* context) {
  (void)info, (void)context;
  const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  EXPECT(here > (uintptr_t)alternate && here < (uintptr_t)alternate + kStackBytes);
  if (may_jump) siglongjmp(landing, signal);
}

static atomic_int jumpers_ready;

static void* be_thrown_about(void* argument) {
  alternate = malloc(kStackBytes);
  EXPECT(alternate != NULL);
  const stack_t given = {.ss_sp = alternate, .ss_size = kStackBytes};
  EXPECT_SYS(sigaltstack(&given, NULL));
  change_mask(SIG_UNBLOCK, SIGUSR2);
  jumpers_ready++;
  for (volatile int jumps = 0; jumps < 20;) {
    if (sigsetjmp(landing, 1) == 0) {
      may_jump = 1;
      // Anywhere: in a computation, at a call, parked in one.
      for (volatile int i = 0;; i++) {
        if (i % 100000 == 0) sched_yield();
        if (i % 1000000 == 0) poll(NULL, 0, 1);
      }
    }
    may_jump = 0;
    jumps++;
  }
  change_mask(SIG_BLOCK, SIGUSR2);
  const stack_t none = {.ss_flags = SS_DISABLE};
  EXPECT_SYS(sigaltstack(&none, NULL));
  free(alternate);
  jumpers_ready--;
  return argument;
}

static void handlers_jump_out_of_anything(void) {
  handle(SIGUSR2, SA_ONSTACK, jump_away);
  change_mask(SIG_BLOCK, SIGUSR2);
  pthread_t threads[3];
  jumpers_ready = 0;
  for (int i = 0; i < 3; i++) threads[i] = start_thread(be_thrown_about, NULL);
  AWAIT(jumpers_ready == 3);
  while (jumpers_ready > 0) {
    // Not joined yet, so their ids are good.
    for (int i = 0; i < 3; i++) EXPECT_OK(pthread_kill(threads[i], SIGUSR2));
    sleep_ms(1);
  }
  for (int i = 0; i < 3; i++) join_thread(threads[i]);
}

static atomic_int spinning;

static void note_end(void* counter) { --*(atomic_int*)counter; }

static void* spin_for_ever(void* argument) {
  int old;
  pthread_cleanup_push(note_end, &spinning);
  spinning++;
  EXPECT_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old));
  for (volatile long i = 0;; i++) continue;
  pthread_cleanup_pop(0);
  return argument;
}

static void computing_threads_are_cancelled(void) {
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) threads[i] = start_thread(spin_for_ever, NULL);
  AWAIT(spinning == 3);
  for (int i = 0; i < 3; i++) EXPECT_OK(pthread_cancel(threads[i]));
  for (int i = 0; i < 3; i++) EXPECT(join_thread(threads[i]) == PTHREAD_CANCELED);
  EXPECT_EQ(spinning, 0);
}

int main(void) {
  // In every thread, but where one unblocks it.
  change_mask(SIG_BLOCK, SIGUSR1);
  change_mask(SIG_BLOCK, SIGRTMIN + 1);
  RUN(work_goes_on_under_a_storm);
  RUN(queued_signals_come_once_and_in_order);
  RUN(one_thread_waits_for_the_process);
  RUN(kill_returns_after_the_handler);
  RUN(handlers_jump_out_of_anything);
  RUN(computing_threads_are_cancelled);
  return 0;
}
