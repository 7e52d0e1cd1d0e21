// socket_timeouts.c - receive and send timeouts, non-blocking sockets, and their errors.
// Checks socket(7) SO_RCVTIMEO and SO_SNDTIMEO "EAGAIN", fcntl(2) O_NONBLOCK, connect(2)
// "EINPROGRESS", "ECONNREFUSED", send(2) "EPIPE", accept4(2) SOCK_NONBLOCK, and FIONBIO.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "tests/programs/loopback.h"

// socket(7) timeouts are kept in ticks of at most 10 ms: one tick may be missing at the end.
static const long long kTickNs = 10000000;

static void set_timeout(int fd, int option, long ms) {
  const struct timeval timeout = {ms / 1000, ms % 1000 * 1000};
  EXPECT_SYS(setsockopt(fd, SOL_SOCKET, option, &timeout, sizeof timeout));
}

static void receiving_times_out(void) {
  int ends[2];
  char byte;
  tcp_pair(ends);
  set_timeout(ends[0], SO_RCVTIMEO, 40);
  long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_ERRNO(recv(ends[0], &byte, 1, 0), EAGAIN);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 40 * kMs - kTickNs);
  start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_ERRNO(read(ends[0], &byte, 1), EAGAIN);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 40 * kMs - kTickNs);
  EXPECT_EQ(write(ends[1], "a", 1), 1);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  // What MSG_WAITALL had already got when the time was over is its result.
  EXPECT_EQ(write(ends[1], "b", 1), 1);
  char two[2];
  EXPECT_EQ(recv(ends[0], two, 2, MSG_WAITALL), 1);
}

static void accepting_times_out(void) {
  const int listener = bind_loopback(SOCK_STREAM);
  set_timeout(listener, SO_RCVTIMEO, 40);
  const long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_ERRNO(accept(listener, NULL, NULL), EAGAIN);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 40 * kMs - kTickNs);
  EXPECT_SYS(close(listener));
}

static void sending_times_out(void) {
  int ends[2];
  static char block[1 << 16];
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  set_timeout(ends[0], SO_SNDTIMEO, 40);
  const long long start = clock_ns(CLOCK_MONOTONIC);
  while (send(ends[0], block, sizeof block, 0) > 0) continue;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 40 * kMs - kTickNs);
}

static void* write_later(void* argument) {
  settle();
  EXPECT_EQ(write((int)(intptr_t)argument, "w", 1), 1);
  return NULL;
}

static void data_comes_before_the_timeout(void) {
  int ends[2];
  char byte;
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  set_timeout(ends[0], SO_RCVTIMEO, kAwaitMs);
  const pthread_t writer = start_thread(write_later, (void*)(intptr_t)ends[1]);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  join_thread(writer);
  set_timeout(ends[0], SO_RCVTIMEO, 0);
  const pthread_t second = start_thread(write_later, (void*)(intptr_t)ends[1]);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  join_thread(second);
}

static void non_blocking_calls_never_wait(void) {
  int ends[2];
  char byte;
  static char block[1 << 20];
  tcp_pair(ends);
  int yes = 1;
  EXPECT_SYS(ioctl(ends[0], FIONBIO, &yes));
  EXPECT_EQ(EXPECT_SYS(fcntl(ends[0], F_GETFL)) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_ERRNO(read(ends[0], &byte, 1), EAGAIN);
  while (write(ends[0], block, sizeof block) > 0) continue;
  EXPECT_EQ(errno, EAGAIN);
  // The flag belongs to the description: a duplicate shares it, and can take it away.
  const int copy = (int)EXPECT_SYS(dup(ends[0]));
  EXPECT_ERRNO(read(copy, &byte, 1), EAGAIN);
  EXPECT_SYS(fcntl(copy, F_SETFL, 0));
  const pthread_t writer = start_thread(write_later, (void*)(intptr_t)ends[1]);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  join_thread(writer);
  int pipe_ends[2];
  EXPECT_SYS(pipe2(pipe_ends, O_NONBLOCK));
  EXPECT_ERRNO(read(pipe_ends[0], &byte, 1), EAGAIN);
}

static void accept4_sets_the_flags(void) {
  const int listener = bind_loopback(SOCK_STREAM);
  const int client = connect_loopback(bound_port(listener));
  struct sockaddr_in peer;
  socklen_t length = sizeof peer;
  const int fd = (int)EXPECT_SYS(
      accept4(listener, (struct sockaddr*)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  EXPECT_EQ(length, sizeof peer);
  EXPECT_EQ(ntohs(peer.sin_port), bound_port(client));
  EXPECT_EQ(EXPECT_SYS(fcntl(fd, F_GETFL)) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_EQ(EXPECT_SYS(fcntl(fd, F_GETFD)), FD_CLOEXEC);
  char byte;
  EXPECT_ERRNO(read(fd, &byte, 1), EAGAIN);
  EXPECT_SYS(fcntl(listener, F_SETFL, O_NONBLOCK));
  EXPECT_ERRNO(accept(listener, NULL, NULL), EAGAIN);
  EXPECT_ERRNO(accept(client, NULL, NULL), EINVAL);
}

static void connecting_may_fail_or_be_in_progress(void) {
  const int listener = bind_loopback(SOCK_STREAM);
  const struct sockaddr_in address = loopback_address(bound_port(listener));
  const int fd = (int)EXPECT_SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_ERRNO(connect(fd, (const struct sockaddr*)&address, sizeof address), EINPROGRESS);
  struct pollfd polled = {.fd = fd, .events = POLLOUT};
  EXPECT_EQ(poll(&polled, 1, -1), 1);
  int error = -1;
  socklen_t length = sizeof error;
  EXPECT_SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length));
  EXPECT_EQ(error, 0);
  // The call that learns of the success reports it; from then on the socket is connected.
  EXPECT_SYS(connect(fd, (const struct sockaddr*)&address, sizeof address));
  EXPECT_ERRNO(connect(fd, (const struct sockaddr*)&address, sizeof address), EISCONN);
  // A bound port on which nobody listens refuses.
  const int quiet = (int)EXPECT_SYS(socket(AF_INET, SOCK_STREAM, 0));
  const struct sockaddr_in any = loopback_address(0);
  EXPECT_SYS(bind(quiet, (const struct sockaddr*)&any, sizeof any));
  const struct sockaddr_in closed = loopback_address(bound_port(quiet));
  const int refused = (int)EXPECT_SYS(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_ERRNO(connect(refused, (const struct sockaddr*)&closed, sizeof closed), ECONNREFUSED);
}

static void broken_connections_are_told(void) {
  int ends[2];
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  EXPECT_SYS(close(ends[1]));
  EXPECT_ERRNO(send(ends[0], "x", 1, MSG_NOSIGNAL), EPIPE);
  signal(SIGPIPE, SIG_IGN);
  EXPECT_ERRNO(write(ends[0], "x", 1), EPIPE);
  int pipe_ends[2];
  EXPECT_SYS(pipe(pipe_ends));
  EXPECT_SYS(close(pipe_ends[0]));
  EXPECT_ERRNO(write(pipe_ends[1], "x", 1), EPIPE);
  const int unconnected = (int)EXPECT_SYS(socket(AF_INET, SOCK_STREAM, 0));
  char byte;
  EXPECT_ERRNO(recv(unconnected, &byte, 1, 0), ENOTCONN);
  EXPECT_ERRNO(recv(pipe_ends[1], &byte, 1, 0), ENOTSOCK);
}

static void a_reset_is_told(void) {
  int ends[2];
  char byte;
  tcp_pair(ends);
  const struct linger abort_at_close = {1, 0};
  EXPECT_SYS(setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &abort_at_close, sizeof abort_at_close));
  EXPECT_SYS(close(ends[1]));
  EXPECT_ERRNO(recv(ends[0], &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(recv(ends[0], &byte, 1, 0), 0);
}

int main(void) {
  RUN(receiving_times_out);
  RUN(accepting_times_out);
  RUN(sending_times_out);
  RUN(data_comes_before_the_timeout);
  RUN(non_blocking_calls_never_wait);
  RUN(accept4_sets_the_flags);
  RUN(connecting_may_fail_or_be_in_progress);
  RUN(broken_connections_are_told);
  RUN(a_reset_is_told);
  return 0;
}
