// poll_select.c - poll, ppoll, select and pselect: readiness, timeouts, hang-ups, signal masks.
// Checks poll(2) (POLLHUP, POLLNVAL, a negative fd is ignored, "minimum" timeout), select(2) and
// its pselect notes, on pipes and sockets that other threads make ready.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/select.h>

#include "tests/programs/loopback.h"

enum { kPipes = 500 };

static void* write_later(void* argument) {
  settle();
  EXPECT_EQ(write((int)(intptr_t)argument, "w", 1), 1);
  return NULL;
}

static pthread_t start_writer(int fd) {
  return start_thread(write_later, (void*)(intptr_t)fd);
}

static void poll_waits_for_another_thread(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  struct pollfd polled = {.fd = ends[0], .events = POLLIN};
  EXPECT_EQ(poll(&polled, 1, 0), 0);
  const pthread_t writer = start_writer(ends[1]);
  EXPECT_EQ(poll(&polled, 1, -1), 1);
  EXPECT_EQ(polled.revents, POLLIN);
  join_thread(writer);
  const struct timespec limit = {kAwaitMs / 1000, 0};
  EXPECT_EQ(ppoll(&polled, 1, &limit, NULL), 1);
  struct pollfd writable = {.fd = ends[1], .events = POLLOUT};
  EXPECT_EQ(poll(&writable, 1, -1), 1);
  EXPECT_EQ(writable.revents, POLLOUT);
}

static void timeouts_are_not_too_short(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  long long start = clock_ns(CLOCK_MONOTONIC);
  struct pollfd polled = {.fd = ends[0], .events = POLLIN};
  EXPECT_EQ(poll(&polled, 1, 20), 0);
  EXPECT_EQ(polled.revents, 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 20 * kMs);
  start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_EQ(poll(NULL, 0, 15), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 15 * kMs);
  start = clock_ns(CLOCK_MONOTONIC);
  const struct timespec wait_time = timespec_from_ns(15 * kMs);
  EXPECT_EQ(ppoll(&polled, 1, &wait_time, NULL), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 15 * kMs);
  start = clock_ns(CLOCK_MONOTONIC);
  struct timeval select_time = {0, 15000};
  EXPECT_EQ(select(0, NULL, NULL, NULL, &select_time), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 15 * kMs);
  // select(2): Linux writes back the time that was left.
  EXPECT_EQ(select_time.tv_sec, 0);
  EXPECT_EQ(select_time.tv_usec, 0);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(ends[0], &set);
  EXPECT_EQ(pselect(ends[0] + 1, &set, NULL, NULL, &wait_time, NULL), 0);
  EXPECT(!FD_ISSET(ends[0], &set));
}

static void hang_ups_and_bad_descriptors_are_told(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  const int gone = (int)EXPECT_SYS(dup(ends[0]));
  EXPECT_SYS(close(gone));
  struct pollfd polled[3] = {
      {.fd = ends[0], .events = POLLIN}, {.fd = gone, .events = POLLIN}, {.fd = -1, .revents = 9}};
  EXPECT_EQ(poll(polled, 3, -1), 1);
  EXPECT_EQ(polled[0].revents, 0);
  EXPECT_EQ(polled[1].revents, POLLNVAL);
  EXPECT_EQ(polled[2].revents, 0);
  EXPECT_SYS(close(ends[1]));
  EXPECT_EQ(poll(polled, 1, -1), 1);
  EXPECT_EQ(polled[0].revents, POLLHUP);
  int pair[2];
  EXPECT_SYS(pipe(pair));
  EXPECT_SYS(close(pair[0]));
  struct pollfd broken = {.fd = pair[1], .events = POLLOUT};
  EXPECT_EQ(poll(&broken, 1, -1), 1);
  EXPECT_EQ(broken.revents, POLLOUT | POLLERR);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(pair[1], &set);
  EXPECT_SYS(close(pair[1]));
  EXPECT_ERRNO(select(pair[1] + 1, &set, NULL, NULL, NULL), EBADF);
}

static void sockets_tell_the_half_close(void) {
  int ends[2];
  tcp_pair(ends);
  struct pollfd polled = {.fd = ends[0], .events = POLLIN | POLLRDHUP | POLLOUT};
  EXPECT_EQ(poll(&polled, 1, -1), 1);
  EXPECT_EQ(polled.revents, POLLOUT);
  EXPECT_SYS(shutdown(ends[1], SHUT_WR));
  polled.events = POLLRDHUP;
  EXPECT_EQ(poll(&polled, 1, -1), 1);
  EXPECT_EQ(polled.revents, POLLRDHUP);
  EXPECT_SYS(shutdown(ends[0], SHUT_WR));
  polled.events = POLLIN;
  AWAIT(poll(&polled, 1, 0) == 1 && (polled.revents & POLLHUP) != 0);
}

static void many_descriptors_are_watched(void) {
  static int pipes[kPipes][2];
  static struct pollfd polled[kPipes];
  for (int i = 0; i < kPipes; i++) {
    EXPECT_SYS(pipe(pipes[i]));
    polled[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN};
  }
  for (int i = 1; i < kPipes; i += 100) {
    const pthread_t writer = start_writer(pipes[i][1]);
    EXPECT_EQ(poll(polled, kPipes, -1), 1);
    for (int k = 0; k < kPipes; k++) EXPECT_EQ(polled[k].revents, k == i ? POLLIN : 0);
    char byte;
    EXPECT_EQ(read(pipes[i][0], &byte, 1), 1);
    join_thread(writer);
  }
  EXPECT_EQ(poll(polled, kPipes, 5), 0);
  for (int i = 0; i < kPipes; i++) EXPECT_EQ(close(pipes[i][0]) + close(pipes[i][1]), 0);
}

static void select_waits_for_each_kind(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  const pthread_t writer = start_writer(ends[1]);
  fd_set readable, writable;
  FD_ZERO(&readable);
  FD_SET(ends[0], &readable);
  EXPECT_EQ(select(ends[0] + 1, &readable, NULL, NULL, NULL), 1);
  EXPECT(FD_ISSET(ends[0], &readable));
  join_thread(writer);
  FD_ZERO(&writable);
  FD_SET(ends[1], &writable);
  const int highest = ends[0] > ends[1] ? ends[0] : ends[1];
  EXPECT_EQ(select(highest + 1, &readable, &writable, NULL, NULL), 2);
  EXPECT(FD_ISSET(ends[0], &readable) && FD_ISSET(ends[1], &writable));
}

static atomic_int signals_seen;

static void count_signal(int signal) {
  (void)signal;
  signals_seen++;
}

static void masks_hold_for_the_wait_only(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = count_signal;
  EXPECT_SYS(sigaction(SIGUSR1, &action, NULL));
  sigset_t blocked, before, now;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  EXPECT_OK(pthread_sigmask(SIG_BLOCK, &blocked, &before));
  EXPECT_OK(pthread_kill(pthread_self(), SIGUSR1));
  const struct timespec wait_time = {kAwaitMs / 1000, 0};
  EXPECT_EQ(ppoll(NULL, 0, &(struct timespec){0, 1000000}, &blocked), 0);
  EXPECT_EQ(signals_seen, 0);
  // The pending signal comes as soon as the wait unblocks it.
  EXPECT_ERRNO(ppoll(NULL, 0, &wait_time, &before), EINTR);
  EXPECT_EQ(signals_seen, 1);
  EXPECT_OK(pthread_kill(pthread_self(), SIGUSR1));
  EXPECT_ERRNO(pselect(0, NULL, NULL, NULL, &wait_time, &before), EINTR);
  EXPECT_EQ(signals_seen, 2);
  EXPECT_OK(pthread_sigmask(SIG_SETMASK, &before, &now));
  EXPECT_EQ(sigismember(&now, SIGUSR1), 1);
}

int main(void) {
  RUN(poll_waits_for_another_thread);
  RUN(timeouts_are_not_too_short);
  RUN(hang_ups_and_bad_descriptors_are_told);
  RUN(sockets_tell_the_half_close);
  RUN(many_descriptors_are_watched);
  RUN(select_waits_for_each_kind);
  RUN(masks_hold_for_the_wait_only);
  return 0;
}
