// sigsys_masks.c - SIGSYS blocked, waited for, handled and sent by the program itself.
// Rule 11: with Syscall User Dispatch a SIGSYS that the kernel finds blocked kills the process, so it
// is in no mask that the kernel sees; what the program does with it works all the same.
// Checks sigprocmask(2), sigaction(2), sigsuspend(2), sigtimedwait(2), ppoll(2), execve(2).
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

extern char** environ;
static atomic_int handled;

static void make_calls(void) {
  char byte = 'b';
  int ends[2];
  EXPECT_SYS(pipe(ends));
  EXPECT_EQ(write(ends[1], &byte, 1), 1);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  EXPECT_SYS(close(ends[0]));
  EXPECT_SYS(close(ends[1]));
  EXPECT(syscall(SYS_gettid) > 0);
  sleep_ms(1);
}

static void on_signal(int number) {
  (void)number;
  const int kept = errno;
  make_calls();
  handled++;
  errno = kept;
}

static void install(int number) {
  struct sigaction action = {.sa_handler = on_signal};
  sigfillset(&action.sa_mask);
  EXPECT_SYS(sigaction(number, &action, NULL));
}

static void a_full_mask_stops_no_call(void) {
  sigset_t all, kept, now;
  sigfillset(&all);
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, &all, &kept));
  make_calls();
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, NULL, &now));
  EXPECT_EQ(sigismember(&now, SIGSYS), 1);
  struct timespec moment = timespec_from_ns(kMs);
  EXPECT_EQ(ppoll(NULL, 0, &moment, &all), 0);
  make_calls();
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, &kept, NULL));
}

static void a_handler_with_a_full_mask_makes_calls(void) {
  install(SIGUSR1);
  handled = 0;
  EXPECT_OK(pthread_kill(pthread_self(), SIGUSR1));
  EXPECT_EQ(handled, 1);
}

static void the_programs_own_sigsys_is_delivered(void) {
  install(SIGSYS);
  struct sigaction found;
  EXPECT_SYS(sigaction(SIGSYS, NULL, &found));
  EXPECT(found.sa_handler == on_signal);
  handled = 0;
  EXPECT_SYS(raise(SIGSYS));
  EXPECT_EQ(handled, 1);
  EXPECT_SYS(kill(getpid(), SIGSYS));
  AWAIT(handled == 2);
}

static void sigsys_is_waited_for(void) {
  sigset_t set, kept;
  sigemptyset(&set);
  sigaddset(&set, SIGSYS);
  EXPECT_OK(pthread_sigmask(SIG_BLOCK, &set, &kept));
  EXPECT_OK(pthread_kill(pthread_self(), SIGSYS));
  struct timespec bound = timespec_from_ns(kAwaitMs * kMs);
  EXPECT_EQ(sigtimedwait(&set, NULL, &bound), SIGSYS);
  handled = 0;
  EXPECT_OK(pthread_kill(pthread_self(), SIGSYS));
  sigset_t without;
  sigemptyset(&without);
  EXPECT_ERRNO(sigsuspend(&without), EINTR);
  EXPECT_EQ(handled, 1);
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, &kept, NULL));
}

static void children_start_with_sigsys_blocked(void) {
  sigset_t all, kept;
  sigfillset(&all);
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, &all, &kept));
  for (int i = 0; i < 4; i++) {
    char* words[] = {"true", NULL};
    pid_t child;
    int status;
    EXPECT_OK(posix_spawnp(&child, "true", NULL, NULL, words, environ));
    make_calls();
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    // A program that is not there: the mask that was lent for it comes back.
    EXPECT_ERRNO(execl("/nonexistent/program", "program", NULL), ENOENT);
    make_calls();
  }
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, &kept, NULL));
}

int main(void) {
  RUN(a_full_mask_stops_no_call);
  RUN(a_handler_with_a_full_mask_makes_calls);
  RUN(the_programs_own_sigsys_is_delivered);
  RUN(sigsys_is_waited_for);
  RUN(children_start_with_sigsys_blocked);
  return 0;
}
