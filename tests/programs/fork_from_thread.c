// fork_from_thread.c - fork from threads, while others are blocked; threads again in the child.
// Checks fork(2) "the child process is created with a single thread - the one that called fork()",
// pthread_atfork(3), waitpid(2) and waitid(2): results, signals, WNOHANG and ECHILD.
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/programs/loopback.h"

enum { kForkers = 6, kParked = 10, kChildThreads = 8 };

static sem_t parked_gate;
static atomic_int parked_awake;

static void* park(void* argument) {
  EXPECT_SYS(sem_wait(&parked_gate));
  parked_awake++;
  return argument;
}

static int exit_status_of(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int ready_count, write_fd;

static void* meet_and_write(void* argument) {
  EXPECT_OK(pthread_mutex_lock(&lock));
  ready_count++;
  EXPECT_OK(pthread_cond_broadcast(&changed));
  while (ready_count < kChildThreads) EXPECT_OK(pthread_cond_wait(&changed, &lock));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  sleep_ms(1);
  EXPECT_EQ(write(write_fd, "t", 1), 1);
  return argument;
}

// The child's life: it is alone, then it has threads of its own, which meet and do I/O.
static void run_child(int fd) {
  EXPECT_EQ(gettid(), getpid());
  EXPECT_SYS(sem_post(&parked_gate));
  sleep_ms(2);
  EXPECT_EQ(parked_awake, 0);
  write_fd = fd;
  pthread_t threads[kChildThreads];
  for (intptr_t i = 0; i < kChildThreads; i++) threads[i] = start_thread(meet_and_write, (void*)i);
  int sum = 0;
  for (int i = 0; i < kChildThreads; i++) sum += (int)(intptr_t)join_thread(threads[i]);
  _exit(sum);
}

static void* fork_and_wait(void* argument) {
  (void)argument;
  int ends[2];
  char text[kChildThreads + 1];
  EXPECT_SYS(pipe2(ends, O_CLOEXEC));
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) run_child(ends[1]);
  EXPECT_SYS(close(ends[1]));
  // Children of other threads may hold a copy of the write end until they end: no end of file here.
  EXPECT_EQ(read_all(ends[0], text, kChildThreads), kChildThreads);
  EXPECT_EQ(exit_status_of(child), kChildThreads * (kChildThreads - 1) / 2);
  EXPECT_SYS(close(ends[0]));
  return NULL;
}

static void children_of_threads_start_threads(void) {
  pthread_t parked[kParked], forkers[kForkers];
  EXPECT_SYS(sem_init(&parked_gate, 0, 0));
  for (int i = 0; i < kParked; i++) parked[i] = start_thread(park, NULL);
  settle();
  for (int i = 0; i < kForkers; i++) forkers[i] = start_thread(fork_and_wait, NULL);
  for (int i = 0; i < kForkers; i++) join_thread(forkers[i]);
  EXPECT_EQ(parked_awake, 0);
  for (int i = 0; i < kParked; i++) EXPECT_SYS(sem_post(&parked_gate));
  for (int i = 0; i < kParked; i++) join_thread(parked[i]);
}

static int order;
static void before_fork(void) {
  order = order * 10 + 1;
}
static void after_in_parent(void) {
  order = order * 10 + 2;
}
static void after_in_child(void) {
  order = order * 10 + 3;
}

static void atfork_handlers_run_on_both_sides(void) {
  EXPECT_OK(pthread_atfork(before_fork, after_in_parent, after_in_child));
  order = 0;
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) _exit(order);
  EXPECT_EQ(order, 12);
  EXPECT_EQ(exit_status_of(child), 13);
}

static void grandchildren_work_too(void) {
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    const pid_t grandchild = (pid_t)EXPECT_SYS(fork());
    if (grandchild == 0) {
      join_thread(start_thread(subject_body, &(Subject){settle}));
      _exit(4);
    }
    _exit(exit_status_of(grandchild) + 1);
  }
  EXPECT_EQ(exit_status_of(child), 5);
}

static void waiting_tells_how_a_child_ended(void) {
  int status = 0;
  siginfo_t info;
  struct rusage usage;
  const pid_t killed = (pid_t)EXPECT_SYS(fork());
  if (killed == 0) {
    for (;;) pause();
  }
  EXPECT_EQ(waitpid(killed, &status, WNOHANG), 0);
  EXPECT_SYS(kill(killed, SIGKILL));
  EXPECT_SYS(waitid(P_PID, (id_t)killed, &info, WEXITED | WNOWAIT));
  EXPECT_EQ(info.si_code, CLD_KILLED);
  EXPECT_EQ(info.si_status, SIGKILL);
  EXPECT_EQ(wait4(killed, &status, 0, &usage), killed);
  EXPECT(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_ERRNO(waitpid(killed, &status, 0), ECHILD);
  const pid_t stopped = (pid_t)EXPECT_SYS(fork());
  if (stopped == 0) {
    raise(SIGSTOP);
    _exit(6);
  }
  EXPECT_EQ(waitpid(stopped, &status, WUNTRACED), stopped);
  EXPECT(WIFSTOPPED(status));
  EXPECT_SYS(kill(stopped, SIGCONT));
  EXPECT_EQ(exit_status_of(stopped), 6);
}

int main(void) {
  RUN(children_of_threads_start_threads);
  RUN(atfork_handlers_run_on_both_sides);
  RUN(grandchildren_work_too);
  RUN(waiting_tells_how_a_child_ended);
  RUN_ON_MAIN(grandchildren_work_too);
  return 0;
}
