// echo_threads.c - an echo server with a thread per connection, and its clients, over loopback TCP.
// Checks read(2) "a positive value less than count is not an error", write(2) and shutdown(2):
// every byte comes back in order on its own connection, and the end of file passes both ways.
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>

#include "tests/programs/loopback.h"

enum { kClients = 64, kMessages = 30, kMessageMax = 5000 };

static uint16_t server_port;
static atomic_llong echoed_bytes;

static void* serve_connection(void* argument) {
  const int fd = (int)(intptr_t)argument;
  char buffer[2048];
  for (;;) {
    const long count = EXPECT_SYS(read(fd, buffer, sizeof buffer));
    if (count == 0) break;
    write_all(fd, buffer, (size_t)count);
    echoed_bytes += count;
  }
  EXPECT_SYS(shutdown(fd, SHUT_WR));
  EXPECT_SYS(close(fd));
  return NULL;
}

static void* accept_connections(void* argument) {
  const int listener = (int)(intptr_t)argument;
  pthread_t handlers[kClients];
  for (int i = 0; i < kClients; i++) {
    const long fd = EXPECT_SYS(accept(listener, NULL, NULL));
    handlers[i] = start_thread(serve_connection, (void*)(intptr_t)fd);
  }
  for (int i = 0; i < kClients; i++) join_thread(handlers[i]);
  return NULL;
}

static void* run_client(void* argument) {
  const int client = (int)(intptr_t)argument;
  const int fd = connect_loopback(server_port);
  char sent[kMessageMax], received[kMessageMax];
  long long total = 0;
  for (int message = 0; message < kMessages; message++) {
    const size_t length = (size_t)((client * 131 + message * 977) % kMessageMax + 1);
    for (size_t i = 0; i < length; i++) sent[i] = (char)(client * 7 + message * 3 + (int)i);
    write_all(fd, sent, length);
    EXPECT_EQ(read_all(fd, received, length), length);
    EXPECT_EQ(memcmp(sent, received, length), 0);
    total += (long long)length;
  }
  EXPECT_SYS(shutdown(fd, SHUT_WR));
  EXPECT_EQ(read(fd, received, sizeof received), 0);
  EXPECT_SYS(close(fd));
  return (void*)(intptr_t)total;
}

int main(void) {
  const int listener = bind_loopback(SOCK_STREAM);
  server_port = bound_port(listener);
  const pthread_t server = start_thread(accept_connections, (void*)(intptr_t)listener);
  pthread_t clients[kClients];
  for (int i = 0; i < kClients; i++) clients[i] = start_thread(run_client, (void*)(intptr_t)i);
  long long total = 0;
  for (int i = 0; i < kClients; i++) total += (intptr_t)join_thread(clients[i]);
  join_thread(server);
  EXPECT_EQ(echoed_bytes, total);
  say("echoed %lld bytes on %d connections\n", total, kClients);
  return 0;
}
