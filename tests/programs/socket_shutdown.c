// socket_shutdown.c - half-closed and shut down connections, while other threads wait on them.
// Checks shutdown(2): SHUT_WR lets the peer read the end of file, SHUT_RD ends a blocked receive, a
// listening socket's shutdown ends a blocked accept with EINVAL (as Linux does it).
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/un.h>

#include "tests/programs/loopback.h"

enum { kWaiters = 8 };

static void half_closed_connections_still_answer(void) {
  int ends[2];
  char text[16];
  tcp_pair(ends);
  write_all(ends[0], "question", 8);
  EXPECT_SYS(shutdown(ends[0], SHUT_WR));
  EXPECT_EQ(read_all(ends[1], text, sizeof text), 8);
  EXPECT_EQ(read(ends[1], text, 1), 0);
  write_all(ends[1], "answer", 6);
  EXPECT_SYS(close(ends[1]));
  EXPECT_EQ(read_all(ends[0], text, sizeof text), 6);
  EXPECT_ERRNO(send(ends[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}

static void* expect_end_of_file(void* argument) {
  char byte;
  EXPECT_EQ(recv((int)(intptr_t)argument, &byte, 1, 0), 0);
  return NULL;
}

static void shutdown_wakes_every_reader(void) {
  int ends[2];
  pthread_t waiters[kWaiters];
  tcp_pair(ends);
  for (int i = 0; i < kWaiters; i++) {
    waiters[i] = start_thread(expect_end_of_file, (void*)(intptr_t)ends[0]);
  }
  settle();
  EXPECT_SYS(shutdown(ends[0], SHUT_RD));
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  for (int i = 0; i < kWaiters; i++) {
    waiters[i] = start_thread(expect_end_of_file, (void*)(intptr_t)ends[0]);
  }
  settle();
  EXPECT_SYS(shutdown(ends[1], SHUT_RDWR));
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
}

static void* expect_no_connection(void* argument) {
  EXPECT_ERRNO(accept((int)(intptr_t)argument, NULL, NULL), EINVAL);
  return NULL;
}

static void shutdown_ends_a_blocked_accept(void) {
  pthread_t waiters[kWaiters];
  const int listener = bind_loopback(SOCK_STREAM);
  for (int i = 0; i < kWaiters; i++) {
    waiters[i] = start_thread(expect_no_connection, (void*)(intptr_t)listener);
  }
  settle();
  EXPECT_SYS(shutdown(listener, SHUT_RDWR));
  for (int i = 0; i < kWaiters; i++) join_thread(waiters[i]);
}

static void* fill_until_broken(void* argument) {
  static char block[1 << 16];
  while (send((int)(intptr_t)argument, block, sizeof block, MSG_NOSIGNAL) > 0) continue;
  EXPECT_EQ(errno, EPIPE);
  return NULL;
}

static void a_blocked_sender_sees_the_peer_go(void) {
  int ends[2];
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  const pthread_t sender = start_thread(fill_until_broken, (void*)(intptr_t)ends[0]);
  settle();
  EXPECT_SYS(shutdown(ends[1], SHUT_RD));
  join_thread(sender);
}

static void unix_names_connect_threads(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char byte;
  // A name without a path: it is gone with the socket.
  snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "weft-program-%d", (int)getpid());
  const int listener = (int)EXPECT_SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_SYS(bind(listener, (struct sockaddr*)&address, sizeof address));
  EXPECT_SYS(listen(listener, 4));
  const int client = (int)EXPECT_SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_SYS(connect(client, (struct sockaddr*)&address, sizeof address));
  const int server = (int)EXPECT_SYS(accept(listener, NULL, NULL));
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  EXPECT_SYS(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &credentials, &length));
  EXPECT_EQ(credentials.pid, getpid());
  EXPECT_EQ(write(client, "u", 1), 1);
  EXPECT_EQ(read(server, &byte, 1), 1);
  EXPECT_SYS(close(client));
  EXPECT_EQ(read(server, &byte, 1), 0);
}

int main(void) {
  RUN(half_closed_connections_still_answer);
  RUN(shutdown_wakes_every_reader);
  RUN(shutdown_ends_a_blocked_accept);
  RUN(a_blocked_sender_sees_the_peer_go);
  RUN(unix_names_connect_threads);
  return 0;
}
