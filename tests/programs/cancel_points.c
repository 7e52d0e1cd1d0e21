// cancel_points.c - threads are cancelled while they are blocked; their cleanup handlers run.
// Checks pthread_cancel(3), pthreads(7) "Cancellation points", pthread_cleanup_push(3) (last pushed
// first), pthread_setcancelstate(3), and POSIX: the mutex is owned again in a cancelled cond_wait.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "tests/programs/loopback.h"

enum { kThreads = 10 };

static atomic_int started, cleanups;
static pthread_mutex_t lock;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static sem_t empty;
static int quiet_pipe[2], quiet_socket[2], listener;

static void count_cleanup(void* argument) {
  (void)argument;
  cleanups++;
}

static void unlock_in_cleanup(void* mutex) {
  // The error-checking mutex answers EPERM if the cancelled wait did not take it again.
  EXPECT_OK(pthread_mutex_unlock(mutex));
}

static void block_in_read(void) {
  char byte;
  EXPECT_SYS(read(quiet_pipe[0], &byte, 1));
}
static void block_in_recv(void) {
  char byte;
  EXPECT_SYS(recv(quiet_socket[0], &byte, 1, 0));
}
static void block_in_accept(void) {
  EXPECT_SYS(accept(listener, NULL, NULL));
}
static void block_in_poll(void) {
  struct pollfd polled = {.fd = quiet_pipe[0], .events = POLLIN};
  poll(&polled, 1, -1);
}
static void block_in_sem_wait(void) {
  sem_wait(&empty);
}
static void block_in_sleep(void) {
  sleep(1000);
}
static void block_in_nanosleep(void) {
  const struct timespec long_time = {1000, 0};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &long_time, NULL);
}
static void block_in_pause(void) {
  pause();
}
static void block_in_cond_wait(void) {
  EXPECT_OK(pthread_mutex_lock(&lock));
  pthread_cleanup_push(unlock_in_cleanup, &lock);
  for (;;) pthread_cond_wait(&never, &lock);
  pthread_cleanup_pop(0);
}
static void block_in_cond_timedwait(void) {
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_REALTIME) + 1000000 * kMs);
  EXPECT_OK(pthread_mutex_lock(&lock));
  pthread_cleanup_push(unlock_in_cleanup, &lock);
  for (;;) pthread_cond_timedwait(&never, &lock, &limit);
  pthread_cleanup_pop(0);
}
static void* wait_for_ever(void* argument) {
  (void)argument;
  for (;;) pause();
  return NULL;
}
static void cancel_and_join(void* thread) {
  EXPECT_OK(pthread_cancel(*(pthread_t*)thread));
  EXPECT(join_thread(*(pthread_t*)thread) == PTHREAD_CANCELED);
}
static void block_in_join(void) {
  pthread_t other = start_thread(wait_for_ever, NULL);
  pthread_cleanup_push(cancel_and_join, &other);
  pthread_join(other, NULL);
  pthread_cleanup_pop(0);
}

static void* block_with_cleanups(void* blocking_call) {
  pthread_cleanup_push(count_cleanup, NULL);
  pthread_cleanup_push(count_cleanup, NULL);
  started++;
  (*(Subject*)blocking_call)();
  pthread_cleanup_pop(0);
  pthread_cleanup_pop(0);
  expect_failed(__FILE__, __LINE__, "a call that was cancelled came back");
}

static void expect_cancellable(const char* name, Subject blocking_call) {
  pthread_t threads[kThreads];
  started = cleanups = 0;
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(block_with_cleanups, &blocking_call);
  AWAIT(started == kThreads);
  settle();
  for (int i = 0; i < kThreads; i++) EXPECT_OK(pthread_cancel(threads[i]));
  for (int i = 0; i < kThreads; i++) EXPECT(join_thread(threads[i]) == PTHREAD_CANCELED);
  EXPECT_EQ(cleanups, 2 * kThreads);
  say("ok cancelled while they %s\n", name);
}
#define EXPECT_CANCELLABLE(call) expect_cancellable(#call, call)

static int cleanup_order;

static void expect_order(void* expected) {
  EXPECT_EQ(cleanup_order++, (intptr_t)expected);
}

static void* push_three(void* argument) {
  (void)argument;
  pthread_cleanup_push(expect_order, (void*)2);
  pthread_cleanup_push(expect_order, (void*)1);
  pthread_cleanup_push(expect_order, (void*)0);
  for (;;) pause();
  pthread_cleanup_pop(0);
  pthread_cleanup_pop(0);
  pthread_cleanup_pop(0);
  return NULL;
}

static void the_last_pushed_handler_runs_first(void) {
  cleanup_order = 0;
  const pthread_t thread = start_thread(push_three, NULL);
  settle();
  EXPECT_OK(pthread_cancel(thread));
  // A thread cancelled before its first statement has pushed nothing: then there is no order.
  EXPECT(join_thread(thread) == PTHREAD_CANCELED);
  EXPECT(cleanup_order == 0 || cleanup_order == 3);
}

static void* wait_with_cancel_disabled(void* argument) {
  int old;
  EXPECT_OK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old));
  EXPECT_EQ(old, PTHREAD_CANCEL_ENABLE);
  started = 1;
  // Blocks, gets the request, and goes on: the byte comes after the request.
  char byte;
  EXPECT_EQ(read(quiet_pipe[0], &byte, 1), 1);
  *(int*)argument = 1;
  EXPECT_OK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL));
  pthread_testcancel();
  return NULL;
}

static void a_disabled_request_is_kept(void) {
  int went_on = 0;
  started = 0;
  const pthread_t thread = start_thread(wait_with_cancel_disabled, &went_on);
  AWAIT(started == 1);
  settle();
  EXPECT_OK(pthread_cancel(thread));
  settle();
  EXPECT_EQ(write(quiet_pipe[1], "b", 1), 1);
  EXPECT(join_thread(thread) == PTHREAD_CANCELED);
  EXPECT_EQ(went_on, 1);
}

static void* compute_for_ever(void* argument) {
  (void)argument;
  EXPECT_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
  started = 1;
  for (volatile unsigned i = 0;; i++) continue;
  return NULL;
}

static void a_computing_thread_is_cancelled_asynchronously(void) {
  started = 0;
  const pthread_t thread = start_thread(compute_for_ever, NULL);
  AWAIT(started == 1);
  EXPECT_OK(pthread_cancel(thread));
  EXPECT(join_thread(thread) == PTHREAD_CANCELED);
}

int main(void) {
  pthread_mutexattr_t kind;
  EXPECT_OK(pthread_mutexattr_init(&kind));
  EXPECT_OK(pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK));
  EXPECT_OK(pthread_mutex_init(&lock, &kind));
  EXPECT_SYS(sem_init(&empty, 0, 0));
  EXPECT_SYS(pipe(quiet_pipe));
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, quiet_socket));
  listener = bind_loopback(SOCK_STREAM);
  EXPECT_CANCELLABLE(block_in_read);
  EXPECT_CANCELLABLE(block_in_recv);
  EXPECT_CANCELLABLE(block_in_accept);
  EXPECT_CANCELLABLE(block_in_poll);
  EXPECT_CANCELLABLE(block_in_sem_wait);
  EXPECT_CANCELLABLE(block_in_sleep);
  EXPECT_CANCELLABLE(block_in_nanosleep);
  EXPECT_CANCELLABLE(block_in_pause);
  EXPECT_CANCELLABLE(block_in_cond_wait);
  EXPECT_CANCELLABLE(block_in_cond_timedwait);
  EXPECT_CANCELLABLE(block_in_join);
  RUN(the_last_pushed_handler_runs_first);
  RUN(a_disabled_request_is_kept);
  RUN(a_computing_thread_is_cancelled_asynchronously);
  return 0;
}
