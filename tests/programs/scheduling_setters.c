// scheduling_setters.c - a thread's nice value, policy and priority: set, read back, kept apart.
// Checks setpriority(2) "threads" and its clamping, sched_setscheduler(2), sched_setparam(2) and
// sched_setattr(2) with their EINVAL and ESRCH, and that a thread with a real-time policy, where
// the system grants one, still waits with the others (sched(7)).
// SPDX-License-Identifier: Apache-2.0
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

enum { kThreads = 20, kNoSuchThread = 0x7ffffff0, kInvalidPolicy = 77, kNoFlags = 0 };

struct Attributes {  // struct sched_attr, its first version; glibc 2.36 has no wrapper
  uint32_t bytes, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

static pthread_barrier_t all_set;
static pid_t tids[kThreads];

static int read_nice(id_t who) {
  errno = 0;
  const int nice_value = getpriority(PRIO_PROCESS, who);
  EXPECT_EQ(errno, 0);
  return nice_value;
}

static void* keep_nice_value(void* argument) {
  const int self = (int)(intptr_t)argument;
  tids[self] = gettid();
  // Upwards only: this needs no privilege.
  EXPECT_SYS(setpriority(PRIO_PROCESS, 0, self));
  pthread_barrier_wait(&all_set);
  for (int i = 0; i < kThreads; i++) {
    EXPECT_EQ(read_nice((id_t)tids[i]), i);
    if (i % 5 == 0) sleep_ms(1);
    EXPECT_EQ(read_nice(0), self);
  }
  pthread_barrier_wait(&all_set);
  return NULL;
}

static void nice_values_are_each_threads_own(void) {
  pthread_t threads[kThreads];
  const int before = read_nice(0);
  EXPECT_OK(pthread_barrier_init(&all_set, NULL, kThreads));
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(keep_nice_value, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT_EQ(read_nice(0), before);
  EXPECT_OK(pthread_barrier_destroy(&all_set));
}

static void nice_values_are_clamped_and_checked(void) {
  EXPECT_SYS(setpriority(PRIO_PROCESS, 0, 100));
  EXPECT_EQ(read_nice(0), 19);
  EXPECT_ERRNO(setpriority(PRIO_PROCESS, kNoSuchThread, 1), ESRCH);
  EXPECT_ERRNO(setpriority(99, 0, 1), EINVAL);
  EXPECT_ERRNO(getpriority(PRIO_PROCESS, kNoSuchThread), ESRCH);
}

// Native and other runs print the same answer, which the system's limits and rights decide.
static void a_lower_value_takes_a_right(void) {
  EXPECT_SYS(setpriority(PRIO_PROCESS, 0, 12));
  const int lowered = setpriority(PRIO_PROCESS, 0, 3);
  if (lowered != 0) EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(read_nice(0), lowered == 0 ? 3 : 12);
  say("a lower nice value is %s\n", lowered == 0 ? "granted" : "refused");
}

static void* report_nice_value(void* argument) {
  *(int*)argument = read_nice(0);
  return NULL;
}

static void a_new_thread_inherits_the_nice_value(void) {
  int inherited = -1;
  EXPECT_SYS(setpriority(PRIO_PROCESS, 0, 7));
  join_thread(start_thread(report_nice_value, &inherited));
  EXPECT_EQ(inherited, 7);
}

// What personality(2) changes is the kernel thread's: the nice value must not get lost beside it.
static void the_nice_value_outlasts_other_changes(void) {
  EXPECT_SYS(setpriority(PRIO_PROCESS, 0, 6));
  EXPECT_SYS(personality(0xffffffff));
  EXPECT_EQ(read_nice(0), 6);
  EXPECT_EQ(read_nice((id_t)gettid()), 6);
  EXPECT_SYS(setpriority(PRIO_PROCESS, (id_t)gettid(), 8));
  EXPECT_EQ(read_nice(0), 8);
}

static void policies_are_read_back(void) {
  struct sched_param parameter = {0};
  EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
  EXPECT_SYS(sched_setscheduler(0, SCHED_BATCH, &parameter));
  EXPECT_EQ(sched_getscheduler(0), SCHED_BATCH);
  EXPECT_EQ(sched_getscheduler(gettid()), SCHED_BATCH);
  EXPECT_SYS(sched_setparam(0, &parameter));
  parameter.sched_priority = -1;
  EXPECT_SYS(sched_getparam(0, &parameter));
  EXPECT_EQ(parameter.sched_priority, 0);
  sleep_ms(1);
  EXPECT_EQ(sched_getscheduler(0), SCHED_BATCH);
  EXPECT_SYS(sched_setscheduler(0, SCHED_OTHER, &parameter));
  EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
}

static void wrong_policies_are_refused(void) {
  struct sched_param parameter = {.sched_priority = 1};
  EXPECT_ERRNO(sched_setscheduler(0, SCHED_OTHER, &parameter), EINVAL);
  EXPECT_ERRNO(sched_setparam(0, &parameter), EINVAL);
  parameter.sched_priority = 0;
  EXPECT_ERRNO(sched_setscheduler(0, kInvalidPolicy, &parameter), EINVAL);
  EXPECT_ERRNO(sched_setscheduler(0, -1, &parameter), EINVAL);
  EXPECT_ERRNO(sched_setscheduler(-1, SCHED_OTHER, &parameter), EINVAL);
  EXPECT_ERRNO(sched_setscheduler(kNoSuchThread, SCHED_OTHER, &parameter), ESRCH);
  EXPECT_ERRNO(sched_setscheduler(0, SCHED_FIFO, &parameter), EINVAL);
  parameter.sched_priority = 100;
  EXPECT_ERRNO(sched_setscheduler(0, SCHED_RR, &parameter), EINVAL);
  EXPECT_ERRNO(sched_getscheduler(kNoSuchThread), ESRCH);
  EXPECT_ERRNO(sched_getparam(kNoSuchThread, &parameter), ESRCH);
  EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
}

static void attributes_are_read_back(void) {
  struct Attributes set = {.bytes = sizeof set, .policy = SCHED_BATCH, .nice = 5}, found = {0};
  EXPECT_SYS(syscall(SYS_sched_setattr, 0, &set, kNoFlags));
  EXPECT_SYS(syscall(SYS_sched_getattr, 0, &found, sizeof found, kNoFlags));
  EXPECT_EQ(found.bytes, sizeof found);
  EXPECT_EQ(found.policy, SCHED_BATCH);
  EXPECT_EQ(found.nice, 5);
  EXPECT_EQ(found.priority, 0);
  EXPECT_EQ(read_nice(0), 5);
  set.policy = kInvalidPolicy;
  EXPECT_ERRNO(syscall(SYS_sched_setattr, 0, &set, kNoFlags), EINVAL);
  set.policy = SCHED_OTHER;
  EXPECT_ERRNO(syscall(SYS_sched_setattr, 0, &set, 1), EINVAL);
  EXPECT_ERRNO(syscall(SYS_sched_getattr, 0, &found, 8, kNoFlags), EINVAL);
  EXPECT_ERRNO(syscall(SYS_sched_setattr, kNoSuchThread, &set, kNoFlags), ESRCH);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turns;

static void take_turns(int parity) {
  for (int i = 0; i < 50; i++) {
    EXPECT_OK(pthread_mutex_lock(&lock));
    while (turns % 2 != parity) EXPECT_OK(pthread_cond_wait(&turned, &lock));
    turns++;
    EXPECT_OK(pthread_cond_broadcast(&turned));
    EXPECT_OK(pthread_mutex_unlock(&lock));
  }
}

static void* take_odd_turns(void* argument) {
  take_turns(1);
  return argument;
}

static void a_real_time_thread_waits_with_the_others(void) {
  struct sched_param parameter = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_FIFO, &parameter) != 0) {
    EXPECT_EQ(errno, EPERM);  // sched(7): RLIMIT_RTPRIO; the waiting below is worth as much
  } else {
    EXPECT_EQ(sched_getscheduler(0), SCHED_FIFO);
    EXPECT_SYS(sched_getparam(0, &parameter));
    EXPECT_EQ(parameter.sched_priority, 1);
    // Back before the next thread starts: it would inherit this (pthread_attr_setinheritsched(3)).
    parameter.sched_priority = 0;
    EXPECT_SYS(sched_setscheduler(0, SCHED_OTHER, &parameter));
    EXPECT_EQ(sched_getscheduler(gettid()), SCHED_OTHER);
  }
  const pthread_t other = start_thread(take_odd_turns, NULL);
  parameter.sched_priority = 1;
  const int granted = sched_setscheduler(0, SCHED_FIFO, &parameter) == 0;
  take_turns(0);
  join_thread(other);
  EXPECT_EQ(turns, 100);
  if (granted) EXPECT_EQ(sched_getscheduler(0), SCHED_FIFO);
  turns = 0;
}

int main(void) {
  RUN(nice_values_are_each_threads_own);
  RUN(nice_values_are_clamped_and_checked);
  RUN(a_lower_value_takes_a_right);
  RUN(a_new_thread_inherits_the_nice_value);
  RUN(the_nice_value_outlasts_other_changes);
  RUN(policies_are_read_back);
  RUN(wrong_policies_are_refused);
  RUN(attributes_are_read_back);
  RUN(a_real_time_thread_waits_with_the_others);
  return 0;
}
