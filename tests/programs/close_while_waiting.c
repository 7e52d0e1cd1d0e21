// close_while_waiting.c - a descriptor is closed or replaced while another thread waits on it.
// Checks close(2), "Multithreaded processes and close()": on Linux the blocked call keeps its
// reference to the file, is not woken by close, and completes later; dup2(2) onto it does the same.
// Method: a receive with MSG_WAITALL that has taken half of its bytes is known to be blocked.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "tests/programs/loopback.h"

enum { kPipeBytes = 300000 };

static int unread_bytes(int fd) {
  int count = -1;
  EXPECT_SYS(ioctl(fd, FIONREAD, &count));
  return count;
}

static void* receive_eight(void* argument) {
  char text[8];
  EXPECT_EQ(recv((int)(intptr_t)argument, text, 8, MSG_WAITALL), 8);
  EXPECT_EQ(memcmp(text, "halfhalf", 8), 0);
  return NULL;
}

// Returns once the receiver has taken the first half, and so waits for the second.
static pthread_t start_blocked_receiver(const int ends[2]) {
  const pthread_t receiver = start_thread(receive_eight, (void*)(intptr_t)ends[0]);
  EXPECT_EQ(write(ends[1], "half", 4), 4);
  AWAIT(unread_bytes(ends[0]) == 0);
  return receiver;
}

static void close_does_not_end(int ends[2]) {
  const pthread_t receiver = start_blocked_receiver(ends);
  EXPECT_SYS(close(ends[0]));
  EXPECT_ERRNO(fcntl(ends[0], F_GETFD), EBADF);
  settle();
  EXPECT_EQ(pthread_tryjoin_np(receiver, NULL), EBUSY);
  EXPECT_EQ(write(ends[1], "half", 4), 4);
  join_thread(receiver);
  EXPECT_SYS(close(ends[1]));
}

static void close_does_not_end_a_receive(void) {
  int ends[2];
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  close_does_not_end(ends);
  tcp_pair(ends);
  close_does_not_end(ends);
}

static void dup2_replaces_the_number_only(void) {
  int ends[2], other[2];
  char byte;
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  EXPECT_SYS(pipe(other));
  const pthread_t receiver = start_blocked_receiver(ends);
  EXPECT_EQ(dup2(other[0], ends[0]), ends[0]);
  EXPECT_EQ(write(other[1], "o", 1), 1);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'o');
  EXPECT_EQ(write(ends[1], "half", 4), 4);
  join_thread(receiver);
  // The old file is gone with the receiver: its peer can tell.
  AWAIT(send(ends[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
}

static void* write_much(void* argument) {
  static char block[kPipeBytes];
  EXPECT_EQ(write((int)(intptr_t)argument, block, sizeof block), kPipeBytes);
  return NULL;
}

static void a_blocked_writer_finishes_after_close(void) {
  int ends[2];
  static char block[kPipeBytes];
  EXPECT_SYS(pipe(ends));
  const long capacity = EXPECT_SYS(fcntl(ends[1], F_GETPIPE_SZ));
  EXPECT(capacity < kPipeBytes);
  const pthread_t writer = start_thread(write_much, (void*)(intptr_t)ends[1]);
  AWAIT(unread_bytes(ends[0]) == capacity);
  EXPECT_SYS(close(ends[1]));
  // The end of file comes after the last byte, when the writer lets go of the pipe.
  EXPECT_EQ(read_all(ends[0], block, sizeof block), kPipeBytes);
  EXPECT_EQ(read(ends[0], block, 1), 0);
  join_thread(writer);
}

static void* poll_for_input(void* argument) {
  struct pollfd polled = {.fd = (int)(intptr_t)argument, .events = POLLIN};
  EXPECT_EQ(poll(&polled, 1, -1), 1);
  return (void*)(intptr_t)polled.revents;
}

static void poll_sees_that_its_descriptor_is_gone(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  const pthread_t poller = start_thread(poll_for_input, (void*)(intptr_t)ends[0]);
  settle();
  const int copy = (int)EXPECT_SYS(fcntl(ends[0], F_DUPFD, 100));
  EXPECT_SYS(close(ends[0]));
  // Woken by this event, poll looks its number up again, and finds nothing.
  EXPECT_EQ(write(ends[1], "p", 1), 1);
  EXPECT_EQ((intptr_t)join_thread(poller), POLLNVAL);
  EXPECT_SYS(close(copy));
  EXPECT_SYS(close(ends[1]));
}

static void* wait_on_epoll(void* argument) {
  struct epoll_event event;
  EXPECT_EQ(epoll_wait((int)(intptr_t)argument, &event, 1, -1), 1);
  return (void*)(intptr_t)event.data.fd;
}

static void epoll_goes_on_without_a_closed_member(void) {
  const int epoll = (int)EXPECT_SYS(epoll_create1(0));
  const int closed = (int)EXPECT_SYS(eventfd(0, 0)), kept = (int)EXPECT_SYS(eventfd(0, 0));
  struct epoll_event event = {.events = EPOLLIN, .data.fd = closed};
  EXPECT_SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, closed, &event));
  event.data.fd = kept;
  EXPECT_SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, kept, &event));
  const pthread_t waiter = start_thread(wait_on_epoll, (void*)(intptr_t)epoll);
  settle();
  EXPECT_SYS(close(closed));
  EXPECT_SYS(eventfd_write(kept, 1));
  EXPECT_EQ((intptr_t)join_thread(waiter), kept);
}

int main(void) {
  RUN(close_does_not_end_a_receive);
  RUN(dup2_replaces_the_number_only);
  RUN(a_blocked_writer_finishes_after_close);
  RUN(poll_sees_that_its_descriptor_is_gone);
  RUN(epoll_goes_on_without_a_closed_member);
  return 0;
}
