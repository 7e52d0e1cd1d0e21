// datagrams.c - UDP over loopback and unix datagrams between threads.
// Checks udp(7), recvfrom(2) "the source address is filled in", connect(2) on datagram sockets, and
// unix(7): a datagram is kept whole, an empty one is a message of length zero.
// SPDX-License-Identifier: Apache-2.0
#include <sys/time.h>

#include "tests/programs/loopback.h"

enum { kClients = 16, kQuestions = 50 };

static uint16_t server_port;

static void* answer_questions(void* argument) {
  const int fd = (int)(intptr_t)argument;
  for (;;) {
    int question;
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    const long count =
        EXPECT_SYS(recvfrom(fd, &question, sizeof question, 0, (struct sockaddr*)&peer, &length));
    if (count == 0) return NULL;
    EXPECT_EQ(count, sizeof question);
    question *= 2;
    EXPECT_EQ(sendto(fd, &question, sizeof question, 0, (struct sockaddr*)&peer, length),
              sizeof question);
  }
}

static void* ask_questions(void* argument) {
  const int fd = bind_loopback(SOCK_DGRAM);
  const struct sockaddr_in server = loopback_address(server_port);
  EXPECT_SYS(connect(fd, (const struct sockaddr*)&server, sizeof server));
  for (int i = 0; i < kQuestions; i++) {
    const int question = (int)(intptr_t)argument * 1000 + i;
    int answer = -1;
    EXPECT_EQ(send(fd, &question, sizeof question, 0), sizeof question);
    EXPECT_EQ(recv(fd, &answer, sizeof answer, 0), sizeof answer);
    EXPECT_EQ(answer, 2 * question);
  }
  EXPECT_SYS(close(fd));
  return NULL;
}

static void udp_answers_go_to_the_asker(void) {
  // One question of each client is under way at a time: the receive buffer cannot overflow.
  const int server = bind_loopback(SOCK_DGRAM);
  server_port = bound_port(server);
  const pthread_t answering = start_thread(answer_questions, (void*)(intptr_t)server);
  pthread_t clients[kClients];
  for (int i = 0; i < kClients; i++) clients[i] = start_thread(ask_questions, (void*)(intptr_t)i);
  for (int i = 0; i < kClients; i++) join_thread(clients[i]);
  const struct sockaddr_in address = loopback_address(server_port);
  const int last = bind_loopback(SOCK_DGRAM);
  EXPECT_EQ(sendto(last, "", 0, 0, (const struct sockaddr*)&address, sizeof address), 0);
  join_thread(answering);
}

static void a_refused_datagram_is_told_later(void) {
  // A socket that is connected to itself takes nothing from others, and keeps its port.
  const int closed = bind_loopback(SOCK_DGRAM);
  const struct sockaddr_in address = loopback_address(bound_port(closed));
  EXPECT_SYS(connect(closed, (const struct sockaddr*)&address, sizeof address));
  const int fd = bind_loopback(SOCK_DGRAM);
  EXPECT_SYS(connect(fd, (const struct sockaddr*)&address, sizeof address));
  EXPECT_EQ(send(fd, "x", 1, 0), 1);
  char byte;
  EXPECT_ERRNO(recv(fd, &byte, 1, 0), ECONNREFUSED);
  EXPECT_ERRNO(send(fd, &byte, 100000, 0), EMSGSIZE);
}

static void* send_datagrams(void* argument) {
  char text[200];
  for (int i = 1; i <= 100; i++) {
    memset(text, 'a' + i % 26, sizeof text);
    EXPECT_EQ(send((int)(intptr_t)argument, text, (size_t)i, 0), i);
  }
  return NULL;
}

static void unix_datagrams_block_and_stay_whole(void) {
  int ends[2];
  char text[200];
  EXPECT_SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
  // More than the queue takes (net.unix.max_dgram_qlen): the sender blocks.
  const pthread_t sender = start_thread(send_datagrams, (void*)(intptr_t)ends[0]);
  settle();
  for (int i = 1; i <= 100; i++) {
    EXPECT_EQ(recv(ends[1], text, sizeof text, 0), i);
    EXPECT_EQ(text[i - 1], 'a' + i % 26);
  }
  join_thread(sender);
}

int main(void) {
  RUN(udp_answers_go_to_the_asker);
  RUN(a_refused_datagram_is_told_later);
  RUN(unix_datagrams_block_and_stay_whole);
  return 0;
}
