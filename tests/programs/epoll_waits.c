// epoll_waits.c - epoll: level, edge, one-shot, exclusive, timeouts, many descriptors, many
// waiters. Checks epoll(7) "Level-triggered and edge-triggered", EPOLLONESHOT, epoll_ctl(2) errors,
// and epoll_wait(2): a descriptor added while another thread waits wakes it.
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "tests/programs/loopback.h"

enum { kPipes = 500, kWaiters = 8, kTokens = 400 };

static void add(int epoll, int fd, uint32_t events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  EXPECT_SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

static int new_epoll(void) {
  return (int)EXPECT_SYS(epoll_create1(EPOLL_CLOEXEC));
}

static void* write_later(void* argument) {
  settle();
  EXPECT_EQ(write((int)(intptr_t)argument, "w", 1), 1);
  return NULL;
}

static void levels_repeat_and_edges_do_not(void) {
  int ends[2];
  struct epoll_event event;
  char byte;
  EXPECT_SYS(pipe(ends));
  const int level = new_epoll(), edge = new_epoll();
  add(level, ends[0], EPOLLIN);
  add(edge, ends[0], EPOLLIN | EPOLLET);
  const pthread_t writer = start_thread(write_later, (void*)(intptr_t)ends[1]);
  for (int i = 0; i < 3; i++) EXPECT_EQ(epoll_wait(level, &event, 1, -1), 1);
  EXPECT_EQ(event.data.fd, ends[0]);
  EXPECT_EQ(event.events, EPOLLIN);
  join_thread(writer);
  EXPECT_EQ(epoll_wait(edge, &event, 1, -1), 1);
  EXPECT_EQ(epoll_wait(edge, &event, 1, 0), 0);
  EXPECT_EQ(write(ends[1], "x", 1), 1);
  EXPECT_EQ(epoll_wait(edge, &event, 1, -1), 1);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  EXPECT_EQ(epoll_wait(edge, &event, 1, 0), 0);
}

static void one_shot_must_be_rearmed(void) {
  struct epoll_event event;
  const int epoll = new_epoll();
  const int counter = (int)EXPECT_SYS(eventfd(0, 0));
  add(epoll, counter, EPOLLIN | EPOLLONESHOT);
  EXPECT_SYS(eventfd_write(counter, 1));
  EXPECT_EQ(epoll_wait(epoll, &event, 1, -1), 1);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 2), 0);
  event.events = EPOLLIN | EPOLLONESHOT;
  EXPECT_SYS(epoll_ctl(epoll, EPOLL_CTL_MOD, counter, &event));
  EXPECT_EQ(epoll_wait(epoll, &event, 1, -1), 1);
}

static void timeouts_are_not_too_short(void) {
  struct epoll_event event;
  const int epoll = new_epoll();
  long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 20), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 20 * kMs);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  EXPECT_ERRNO(epoll_wait(epoll, &event, 0, 0), EINVAL);
  EXPECT_ERRNO(epoll_wait(-1, &event, 1, 0), EBADF);
  start = clock_ns(CLOCK_MONOTONIC);
  const struct timespec time = timespec_from_ns(15 * kMs);
  const int result = epoll_pwait2(epoll, &event, 1, &time, NULL);
  EXPECT(result == 0 || (result == -1 && errno == ENOSYS));
  if (result == 0) EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 15 * kMs);
}

static void control_errors_are_told(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  const int epoll = new_epoll();
  struct epoll_event event = {.events = EPOLLIN};
  add(epoll, ends[0], EPOLLIN);
  EXPECT_ERRNO(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event), EEXIST);
  EXPECT_ERRNO(epoll_ctl(epoll, EPOLL_CTL_MOD, ends[1], &event), ENOENT);
  EXPECT_ERRNO(epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &event), EINVAL);
  EXPECT_ERRNO(epoll_ctl(epoll, EPOLL_CTL_ADD, temporary_file(), &event), EPERM);
  EXPECT_SYS(close(ends[1]));
  EXPECT_EQ(epoll_wait(epoll, &event, 1, -1), 1);
  EXPECT_EQ(event.events, EPOLLHUP);
  // epoll(7): closing the last descriptor takes the file out of the set.
  EXPECT_SYS(close(ends[0]));
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 2), 0);
}

static void many_descriptors_are_watched(void) {
  static int pipes[kPipes][2];
  static struct epoll_event events[kPipes];
  const int epoll = new_epoll();
  for (int i = 0; i < kPipes; i++) {
    EXPECT_SYS(pipe(pipes[i]));
    add(epoll, pipes[i][0], EPOLLIN);
  }
  const pthread_t writer = start_thread(write_later, (void*)(intptr_t)pipes[77][1]);
  EXPECT_EQ(epoll_wait(epoll, events, kPipes, -1), 1);
  EXPECT_EQ(events[0].data.fd, pipes[77][0]);
  join_thread(writer);
  for (int i = 0; i < kPipes; i++) EXPECT_EQ(write(pipes[i][1], "y", 1), 1);
  EXPECT_EQ(epoll_wait(epoll, events, kPipes, -1), kPipes);
  for (int i = 0; i < kPipes; i++) EXPECT_EQ(close(pipes[i][0]) + close(pipes[i][1]), 0);
}

static int shared_epoll, token_counter;
static atomic_int tokens_taken, tokens_stop;

static void* take_tokens(void* argument) {
  struct epoll_event event;
  (void)argument;
  while (!tokens_stop) {
    if (epoll_wait(shared_epoll, &event, 1, 5) != 1) continue;
    eventfd_t one;
    // Another waiter may have been faster: then the counter is empty again.
    if (eventfd_read(token_counter, &one) == 0) {
      tokens_taken++;
    } else {
      EXPECT_EQ(errno, EAGAIN);
    }
  }
  return NULL;
}

static void many_waiters_lose_no_event(void) {
  pthread_t waiters[kWaiters];
  shared_epoll = new_epoll();
  token_counter = (int)EXPECT_SYS(eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK));
  add(shared_epoll, token_counter, EPOLLIN);
  for (int i = 0; i < kWaiters; i++) waiters[i] = start_thread(take_tokens, NULL);
  for (int i = 0; i < kTokens; i++) {
    EXPECT_SYS(eventfd_write(token_counter, 1));
    if (i % 32 == 0) settle();
  }
  AWAIT(tokens_taken == kTokens);
  tokens_stop = 1;
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
}

static void* wait_without_limit(void* argument) {
  struct epoll_event event;
  EXPECT_EQ(epoll_wait((int)(intptr_t)argument, &event, 1, -1), 1);
  return (void*)(intptr_t)event.data.fd;
}

static void an_addition_wakes_a_waiter(void) {
  const int epoll = new_epoll();
  const int ready = (int)EXPECT_SYS(eventfd(1, 0));
  const pthread_t waiter = start_thread(wait_without_limit, (void*)(intptr_t)epoll);
  settle();
  add(epoll, ready, EPOLLIN);
  EXPECT_EQ((intptr_t)join_thread(waiter), ready);
  // An epoll descriptor is itself ready to read when it has events.
  const int outer = new_epoll();
  struct epoll_event event;
  add(outer, epoll, EPOLLIN);
  EXPECT_EQ(epoll_wait(outer, &event, 1, -1), 1);
  EXPECT_EQ(event.data.fd, epoll);
}

static void nothing(int signal) {
  (void)signal;
}

static void pwait_takes_a_mask(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = nothing;
  EXPECT_SYS(sigaction(SIGUSR1, &action, NULL));
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  EXPECT_OK(pthread_sigmask(SIG_BLOCK, &set, &before));
  EXPECT_OK(pthread_kill(pthread_self(), SIGUSR1));
  struct epoll_event event;
  const int epoll = new_epoll();
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 2), 0);
  EXPECT_ERRNO(epoll_pwait(epoll, &event, 1, kAwaitMs, &before), EINTR);
}

int main(void) {
  RUN(levels_repeat_and_edges_do_not);
  RUN(one_shot_must_be_rearmed);
  RUN(timeouts_are_not_too_short);
  RUN(control_errors_are_told);
  RUN(many_descriptors_are_watched);
  RUN(many_waiters_lose_no_event);
  RUN(an_addition_wakes_a_waiter);
  RUN(pwait_takes_a_mask);
  return 0;
}
