// raw_signals.c - sending, awaiting and returning from signals by call number.
// Checks tkill(2), pause(2), sigpending(2), rt_sigqueueinfo(2), sigwaitinfo(2), signalfd(2) and
// sigreturn(2) with a restorer of the program's own.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

enum { kSignalBytes = 8 };

static _Thread_local volatile sig_atomic_t handled;
static atomic_int ready, target_tid;

static void count_signal(int number) {
  (void)number;
  handled++;
}

static void* pause_until_signalled(void* argument) {
  sigset_t blocked, pending;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  EXPECT_SYS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &blocked, NULL, kSignalBytes));
  target_tid = gettid();
  ready = 1;
  AWAIT(ready == 2);
  sigemptyset(&pending);
  EXPECT_SYS(syscall(SYS_rt_sigpending, &pending, kSignalBytes));
  EXPECT_EQ(sigismember(&pending, SIGUSR1), 1);
  EXPECT_EQ(handled, 0);
  EXPECT_SYS(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &blocked, NULL, kSignalBytes));
  EXPECT_EQ(handled, 1);
  ready = 3;
  EXPECT_ERRNO(syscall(SYS_pause), EINTR);
  EXPECT(handled > 1);
  ready = 4;
  return argument;
}

static void tkill_reaches_one_thread(void) {
  struct sigaction action = {.sa_handler = count_signal};
  EXPECT_SYS(sigaction(SIGUSR1, &action, NULL));
  ready = 0;
  const pthread_t target = start_thread(pause_until_signalled, NULL);
  AWAIT(ready == 1);
  EXPECT_SYS(syscall(SYS_tkill, target_tid, SIGUSR1));
  ready = 2;
  AWAIT(ready == 3);
  // One that comes before the pause is lost to it (pause(2)); so until it tells that it got one.
  while (ready == 3) {
    EXPECT_SYS(syscall(SYS_tkill, target_tid, SIGUSR1));
    sleep_ms(1);
  }
  join_thread(target);
  EXPECT_EQ(handled, 0);
  EXPECT_ERRNO(syscall(SYS_tkill, target_tid, SIGUSR1), ESRCH);
  EXPECT_ERRNO(syscall(SYS_tkill, 0, SIGUSR1), EINVAL);
}

static void queued_signals_carry_their_value(void) {
  sigset_t set;
  siginfo_t sent = {.si_signo = SIGUSR2, .si_code = SI_QUEUE}, taken;
  sent.si_pid = getpid();
  sent.si_uid = getuid();
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  EXPECT_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  sent.si_value.sival_int = 7;
  EXPECT_SYS(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR2, &sent));
  EXPECT_EQ(syscall(SYS_rt_sigtimedwait, &set, &taken, NULL, kSignalBytes), SIGUSR2);
  EXPECT_EQ(taken.si_value.sival_int, 7);
  EXPECT_EQ(taken.si_pid, getpid());
}

static void* wait_with_all_blocked(void* result) {
  siginfo_t taken;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  ready = 1;
  EXPECT_EQ(syscall(SYS_rt_sigtimedwait, &set, &taken, NULL, kSignalBytes), SIGUSR2);
  *(int*)result = taken.si_value.sival_int;
  return NULL;
}

// The first thread blocks SIGUSR2 too (main), so that the process's signal waits for its taker.
static void a_process_signal_is_queued_once(void) {
  siginfo_t sent = {.si_signo = SIGUSR2, .si_code = SI_QUEUE};
  int value = 0;
  ready = 0;
  const pthread_t taker = start_thread(wait_with_all_blocked, &value);
  AWAIT(ready == 1);
  sent.si_pid = getpid();
  sent.si_uid = getuid();
  sent.si_value.sival_int = 9;
  EXPECT_SYS(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR2, &sent));
  join_thread(taker);
  EXPECT_EQ(value, 9);
}

static void the_old_signalfd_call_reads_a_signal(void) {
  sigset_t set;
  char info[128];  // struct signalfd_siginfo; <sys/signalfd.h> names the newer call's flags only
  uint32_t number;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  const int fd = (int)EXPECT_SYS(syscall(SYS_signalfd, -1, &set, kSignalBytes));
  EXPECT_SYS(kill(getpid(), SIGUSR2));
  EXPECT_EQ(read(fd, info, sizeof info), sizeof info);
  memcpy(&number, info, sizeof number);
  EXPECT_EQ(number, SIGUSR2);
  EXPECT_SYS(close(fd));
}

// What the kernel takes, with a restorer of this program's own (sigreturn(2), SA_RESTORER).
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)(void);
  uint64_t mask;
};
void raw_restorer(void);
__asm__(
    ".text\n.type raw_restorer, @function\nraw_restorer:\n\t"
    "mov $15, %eax\n\tsyscall\n\tud2\n.size raw_restorer, .-raw_restorer");

static void a_handler_returns_by_its_own_restorer(void) {
  struct KernelAction action = {.handler = count_signal,
                                .flags = 0x04000000 /* SA_RESTORER */ | SA_NODEFER,
                                .restorer = raw_restorer};
  EXPECT_SYS(syscall(SYS_rt_sigaction, SIGWINCH, &action, NULL, kSignalBytes));
  for (int i = 1; i <= 50; i++) {
    EXPECT_SYS(syscall(SYS_tgkill, getpid(), gettid(), SIGWINCH));
    EXPECT_EQ(handled, i);
  }
  signal(SIGWINCH, SIG_DFL);
}

int main(void) {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  EXPECT_OK(pthread_sigmask(SIG_BLOCK, &blocked, NULL));
  RUN(tkill_reaches_one_thread);
  RUN(queued_signals_carry_their_value);
  RUN(a_process_signal_is_queued_once);
  RUN(the_old_signalfd_call_reads_a_signal);
  RUN(a_handler_returns_by_its_own_restorer);
  return 0;
}
