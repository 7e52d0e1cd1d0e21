// socket.h - the few socket steps that every benchmark server takes in the same way.
// Guarantee: servers listen on 127.0.0.1 only, with one backlog, TCP_NODELAY and no SIGPIPE, so
// that what differs between two of them is how they wait. A failed step ends the program with one
// line on stderr.
// Included by the programs of this folder. Read next: pthread_echo.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

// A burst of 1000 connections must fit, or SYN retries of a second would be what is measured.
constexpr int kBacklog = 4096;

[[noreturn]] inline void die(const char* what, int error) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(error));
  std::exit(1);
}

// host: the last part of 127.0.0.x.
inline sockaddr_in loopback_address(uint16_t port, uint32_t host = 1) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl((127U << 24) + host);
  return address;
}

// Reads a port number, or ends the program with its usage.
inline uint16_t parse_port(const char* text, const char* usage) {
  char* end = nullptr;
  const long port = text == nullptr ? 0 : std::strtol(text, &end, 10);
  if (port < 1 || port > 65535 || *end != '\0') {
    std::fprintf(stderr, "usage: %s\n", usage);
    std::exit(2);
  }
  return static_cast<uint16_t>(port);
}

// One fd per connection: the soft limit of 1024 is too low for the tables.
inline void raise_fd_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

inline void set_nodelay(int fd) {
  const int one = 1;
  // It fails only when the peer is gone already, which the next read tells as well.
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// Opens the listening socket; flags: SOCK_NONBLOCK or 0.
inline int listen_on(uint16_t port, int flags = 0) {
  signal(SIGPIPE, SIG_IGN);
  raise_fd_limit();
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) die("socket", errno);
  const int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const sockaddr_in address = loopback_address(port);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    die("bind", errno);
  }
  if (listen(fd, kBacklog) != 0) die("listen", errno);
  return fd;
}

// Accepts for ever and gives each connection a detached thread with default attributes.
// serve: gets the fd as its argument and closes it.
[[noreturn]] inline void serve_by_threads(int listener, void* (*serve)(void*)) {
  for (;;) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      die("accept", errno);
    }
    set_nodelay(fd);
    pthread_t thread;
    const int error =
        pthread_create(&thread, nullptr, serve, reinterpret_cast<void*>(intptr_t{fd}));
    if (error != 0) {
      std::fprintf(stderr, "pthread_create: %s\n", std::strerror(error));
      close(fd);
      continue;
    }
    pthread_detach(thread);
  }
}

}  // namespace bench
