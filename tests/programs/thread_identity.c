// thread_identity.c - what a thread is called and counted by: ids, names, affinity,
// priority. Checks gettid(2), pthread_self(3), pthread_setname_np(3) "ERANGE", prctl(2)
// PR_GET_NAME, pthread_getaffinity_np(3) and getpriority(2).
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

enum { kThreads = 100 };

static pid_t tids[kThreads];
static pthread_barrier_t all_alive;

static void* keep_identity(void* argument) {
  const int self = (int)(intptr_t)argument;
  const pid_t tid = gettid();
  const pthread_t handle = pthread_self();
  tids[self] = tid;
  pthread_barrier_wait(&all_alive);
  for (int i = 0; i < 10; i++) {
    if (i % 3 == 0) {
      sleep_ms(1);
    } else {
      sched_yield();
    }
    EXPECT_EQ(gettid(), tid);
    EXPECT_EQ(syscall(SYS_gettid), tid);
    EXPECT(pthread_equal(pthread_self(), handle));
    EXPECT_EQ(syscall(SYS_getpid), getpid());
  }
  pthread_barrier_wait(&all_alive);
  return NULL;
}

static int compare_tids(const void* left, const void* right) {
  return (*(const pid_t*)left > *(const pid_t*)right) -
         (*(const pid_t*)left < *(const pid_t*)right);
}

static void thread_ids_are_unique_and_constant(void) {
  pthread_t threads[kThreads];
  EXPECT_OK(pthread_barrier_init(&all_alive, NULL, kThreads));
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(keep_identity, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  qsort(tids, kThreads, sizeof tids[0], compare_tids);
  for (int i = 1; i < kThreads; i++) EXPECT(tids[i] != tids[i - 1]);
  for (int i = 0; i < kThreads; i++) EXPECT(tids[i] > 0 && tids[i] != getpid());
}

static void the_first_thread_has_the_process_id(void) {
  EXPECT_EQ(gettid(), getpid());
  sleep_ms(1);
  EXPECT_EQ(gettid(), getpid());
}

static void* keep_name(void* argument) {
  char name[16], found[16], by_prctl[16];
  snprintf(name, sizeof name, "worker %d", (int)(intptr_t)argument);
  EXPECT_OK(pthread_setname_np(pthread_self(), name));
  for (int i = 0; i < 5; i++) {
    sleep_ms(1);
    EXPECT_OK(pthread_getname_np(pthread_self(), found, sizeof found));
    EXPECT_EQ(strcmp(found, name), 0);
    EXPECT_SYS(prctl(PR_GET_NAME, by_prctl));
    EXPECT_EQ(strcmp(by_prctl, name), 0);
  }
  pthread_barrier_wait(&all_alive);
  return NULL;
}

static void names_are_the_threads_own(void) {
  enum { kNamed = 10 };
  pthread_t threads[kNamed];
  char found[16], before[16];
  EXPECT_OK(pthread_getname_np(pthread_self(), before, sizeof before));
  EXPECT_OK(pthread_barrier_init(&all_alive, NULL, kNamed + 1));
  for (int i = 0; i < kNamed; i++) threads[i] = start_thread(keep_name, (void*)(intptr_t)i);
  // By another thread, while the named one is alive and waits.
  AWAIT(pthread_getname_np(threads[3], found, sizeof found) == 0 && strcmp(found, "worker 3") == 0);
  EXPECT_EQ(pthread_setname_np(threads[4], "a name that is too long"), ERANGE);
  pthread_barrier_wait(&all_alive);
  for (int i = 0; i < kNamed; i++) join_thread(threads[i]);
  EXPECT_OK(pthread_getname_np(pthread_self(), found, sizeof found));
  EXPECT_EQ(strcmp(found, before), 0);
}

static void* inherit_affinity(void* argument) {
  cpu_set_t found;
  EXPECT_OK(pthread_getaffinity_np(pthread_self(), sizeof found, &found));
  EXPECT(CPU_EQUAL(&found, (cpu_set_t*)argument));
  return NULL;
}

static void affinity_is_set_read_and_inherited(void) {
  cpu_set_t all, one, found;
  EXPECT_SYS(sched_getaffinity(0, sizeof all, &all));
  EXPECT(CPU_COUNT(&all) >= 1);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &all)) cpu++;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  EXPECT_OK(pthread_setaffinity_np(pthread_self(), sizeof one, &one));
  EXPECT_SYS(sched_getaffinity(0, sizeof found, &found));
  EXPECT(CPU_EQUAL(&found, &one));
  join_thread(start_thread(inherit_affinity, &one));
  CPU_ZERO(&found);
  EXPECT_EQ(pthread_setaffinity_np(pthread_self(), sizeof found, &found), EINVAL);
  EXPECT_OK(pthread_setaffinity_np(pthread_self(), sizeof all, &all));
  join_thread(start_thread(inherit_affinity, &all));
}

static void scheduling_is_the_default(void) {
  struct sched_param parameters;
  int policy = -1;
  EXPECT_OK(pthread_getschedparam(pthread_self(), &policy, &parameters));
  EXPECT_EQ(policy, SCHED_OTHER);
  EXPECT_EQ(parameters.sched_priority, 0);
  EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
  errno = 0;
  EXPECT_EQ(getpriority(PRIO_PROCESS, 0), getpriority(PRIO_PROCESS, (id_t)getpid()));
  EXPECT_EQ(errno, 0);
}

int main(void) {
  RUN(thread_ids_are_unique_and_constant);
  RUN_ON_MAIN(the_first_thread_has_the_process_id);
  RUN(names_are_the_threads_own);
  RUN(affinity_is_set_read_and_inherited);
  RUN(scheduling_is_the_default);
  return 0;
}
