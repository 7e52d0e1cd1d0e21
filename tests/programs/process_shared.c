// process_shared.c - mutexes, condition variables, semaphores and futexes shared by two processes.
// Checks pthread_mutexattr_setpshared(3), pthread_condattr_setpshared,
// pthread_barrierattr_setpshared, sem_init(3) pshared, and pthread_mutexattr_setrobust(3) when the
// owning process dies.
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/programs/futex_words.h"

enum { kRounds = 300, kThreads = 4 };

struct Shared {
  pthread_mutex_t mutex, robust;
  pthread_cond_t changed;
  pthread_barrier_t barrier;
  pthread_rwlock_t rwlock;
  sem_t ping, pong;
  FutexWord word;
  long long counter;
  int turn;
};

static struct Shared* shared;

static void prepare(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT(shared != MAP_FAILED);
  pthread_mutexattr_t mutex_attributes;
  EXPECT_OK(pthread_mutexattr_init(&mutex_attributes));
  EXPECT_OK(pthread_mutexattr_setpshared(&mutex_attributes, PTHREAD_PROCESS_SHARED));
  EXPECT_OK(pthread_mutex_init(&shared->mutex, &mutex_attributes));
  EXPECT_OK(pthread_mutexattr_setrobust(&mutex_attributes, PTHREAD_MUTEX_ROBUST));
  EXPECT_OK(pthread_mutex_init(&shared->robust, &mutex_attributes));
  pthread_condattr_t cond_attributes;
  EXPECT_OK(pthread_condattr_init(&cond_attributes));
  EXPECT_OK(pthread_condattr_setpshared(&cond_attributes, PTHREAD_PROCESS_SHARED));
  EXPECT_OK(pthread_cond_init(&shared->changed, &cond_attributes));
  pthread_barrierattr_t barrier_attributes;
  EXPECT_OK(pthread_barrierattr_init(&barrier_attributes));
  EXPECT_OK(pthread_barrierattr_setpshared(&barrier_attributes, PTHREAD_PROCESS_SHARED));
  EXPECT_OK(pthread_barrier_init(&shared->barrier, &barrier_attributes, 2));
  pthread_rwlockattr_t rwlock_attributes;
  EXPECT_OK(pthread_rwlockattr_init(&rwlock_attributes));
  EXPECT_OK(pthread_rwlockattr_setpshared(&rwlock_attributes, PTHREAD_PROCESS_SHARED));
  EXPECT_OK(pthread_rwlock_init(&shared->rwlock, &rwlock_attributes));
  EXPECT_SYS(sem_init(&shared->ping, 1, 0));
  EXPECT_SYS(sem_init(&shared->pong, 1, 0));
}

// Runs `in_child` on a thread of a forked process and `in_parent` here; both must succeed.
static void run_on_both_sides(Subject in_child, Subject in_parent) {
  int status = 0;
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    join_thread(start_thread(subject_body, &in_child));
    _exit(0);
  }
  in_parent();
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

static void* count_in_thread(void* argument) {
  for (int i = 0; i < kRounds; i++) {
    EXPECT_OK(pthread_mutex_lock(&shared->mutex));
    shared->counter++;
    if (i % 32 == 0) sched_yield();
    EXPECT_OK(pthread_mutex_unlock(&shared->mutex));
  }
  return argument;
}

static void count_in_threads(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(count_in_thread, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void a_shared_mutex_excludes(void) {
  run_on_both_sides(count_in_threads, count_in_threads);
  EXPECT_EQ(shared->counter, 2LL * kThreads * kRounds);
}

static void take_turns_by_condition(int self) {
  EXPECT_OK(pthread_mutex_lock(&shared->mutex));
  for (int i = 0; i < kRounds; i++) {
    while (shared->turn % 2 != self) EXPECT_OK(pthread_cond_wait(&shared->changed, &shared->mutex));
    shared->turn++;
    EXPECT_OK(pthread_cond_signal(&shared->changed));
  }
  EXPECT_OK(pthread_mutex_unlock(&shared->mutex));
}

static void take_even_turns(void) {
  take_turns_by_condition(0);
}
static void take_odd_turns(void) {
  take_turns_by_condition(1);
}

static void a_shared_condition_hands_over(void) {
  run_on_both_sides(take_even_turns, take_odd_turns);
  EXPECT_EQ(shared->turn, 2 * kRounds);
}

static void answer_pings(void) {
  for (int i = 0; i < kRounds; i++) {
    EXPECT_SYS(sem_wait(&shared->ping));
    EXPECT_SYS(sem_post(&shared->pong));
  }
}

static void send_pings(void) {
  for (int i = 0; i < kRounds; i++) {
    EXPECT_SYS(sem_post(&shared->ping));
    EXPECT_SYS(sem_wait(&shared->pong));
  }
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_REALTIME) + 10 * kMs);
  EXPECT_ERRNO(sem_timedwait(&shared->pong, &limit), ETIMEDOUT);
}

static void shared_semaphores_cross(void) {
  run_on_both_sides(answer_pings, send_pings);
}

static void cross_barrier(void) {
  for (int i = 0; i < kRounds / 10; i++) {
    const int result = pthread_barrier_wait(&shared->barrier);
    EXPECT(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
  }
}

static void a_shared_barrier_holds_both(void) {
  run_on_both_sides(cross_barrier, cross_barrier);
}

static void write_under_lock(void) {
  for (int i = 0; i < kRounds; i++) {
    EXPECT_OK(pthread_rwlock_wrlock(&shared->rwlock));
    const long long seen = shared->counter;
    if (i % 32 == 0) sched_yield();
    shared->counter = seen + 1;
    EXPECT_OK(pthread_rwlock_unlock(&shared->rwlock));
  }
}

static void a_shared_rwlock_excludes(void) {
  shared->counter = 0;
  run_on_both_sides(write_under_lock, write_under_lock);
  EXPECT_EQ(shared->counter, 2 * kRounds);
}

static void die_with_the_mutex(void) {
  EXPECT_OK(pthread_mutex_lock(&shared->robust));
  EXPECT_SYS(sem_post(&shared->ping));
  _exit(0);
}

static void inherit_the_mutex(void) {
  EXPECT_SYS(sem_wait(&shared->ping));
  EXPECT_EQ(pthread_mutex_lock(&shared->robust), EOWNERDEAD);
  EXPECT_OK(pthread_mutex_consistent(&shared->robust));
  EXPECT_OK(pthread_mutex_unlock(&shared->robust));
  EXPECT_OK(pthread_mutex_lock(&shared->robust));
  EXPECT_OK(pthread_mutex_unlock(&shared->robust));
}

static void a_dead_process_leaves_its_robust_mutex(void) {
  run_on_both_sides(die_with_the_mutex, inherit_the_mutex);
}

static void wait_for_word(void) {
  while (shared->word == 0) {
    if (futex(&shared->word, FUTEX_WAIT, 0, NULL, NULL, 0) != 0) {
      EXPECT(errno == EAGAIN || errno == EINTR);
    }
  }
}

static void set_word(void) {
  settle();
  shared->word = 1;
  EXPECT_SYS(futex(&shared->word, FUTEX_WAKE, 1, NULL, NULL, 0));
}

static void a_shared_futex_wakes_the_other_process(void) {
  run_on_both_sides(wait_for_word, set_word);
  shared->word = 0;
  run_on_both_sides(set_word, wait_for_word);
}

int main(void) {
  prepare();
  RUN(a_shared_mutex_excludes);
  RUN(a_shared_condition_hands_over);
  RUN(shared_semaphores_cross);
  RUN(a_shared_barrier_holds_both);
  RUN(a_shared_rwlock_excludes);
  RUN(a_dead_process_leaves_its_robust_mutex);
  RUN(a_shared_futex_wakes_the_other_process);
  return 0;
}
