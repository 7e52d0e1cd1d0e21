// loopback.h - TCP on 127.0.0.1 and whole transfers, for the test programs that talk to themselves.
// Guarantee: ports are chosen by the kernel, nothing leaves the machine; a short transfer that is
// not an end of file is continued, an error is a failed check.
// Included by the socket programs; C17 and C++20. Read next: expect.h.
// SPDX-License-Identifier: Apache-2.0
#ifndef WEFT_TESTS_PROGRAMS_LOOPBACK_H_
#define WEFT_TESTS_PROGRAMS_LOOPBACK_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/programs/expect.h"

static inline struct sockaddr_in loopback_address(uint16_t port) {
  struct sockaddr_in address;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static inline uint16_t bound_port(int fd) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  EXPECT_SYS(getsockname(fd, (struct sockaddr*)&address, &length));
  return ntohs(address.sin_port);
}

// A socket of the given type, bound to a free port; a stream one also listens.
static inline int bind_loopback(int type) {
  const int fd = (int)EXPECT_SYS(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  const struct sockaddr_in address = loopback_address(0);
  EXPECT_SYS(bind(fd, (const struct sockaddr*)&address, sizeof address));
  if ((type & 0xf) == SOCK_STREAM) EXPECT_SYS(listen(fd, 512));
  return fd;
}

static inline int connect_loopback(uint16_t port) {
  const int fd = (int)EXPECT_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const struct sockaddr_in address = loopback_address(port);
  EXPECT_SYS(connect(fd, (const struct sockaddr*)&address, sizeof address));
  return fd;
}

// Two ends of one TCP connection; ends[0] connected, ends[1] accepted.
static inline void tcp_pair(int ends[2]) {
  const int listener = bind_loopback(SOCK_STREAM);
  ends[0] = connect_loopback(bound_port(listener));
  ends[1] = (int)EXPECT_SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
  EXPECT_SYS(close(listener));
}

static inline void write_all(int fd, const void* data, size_t length) {
  const char* source = (const char*)data;
  for (size_t done = 0; done < length;) {
    const long count = EXPECT_SYS(write(fd, source + done, length - done));
    done += (size_t)count;
  }
}

// Reads until length bytes or the end of file; returns how many came.
static inline size_t read_all(int fd, void* data, size_t length) {
  char* target = (char*)data;
  size_t done = 0;
  while (done < length) {
    const long count = EXPECT_SYS(read(fd, target + done, length - done));
    if (count == 0) break;
    done += (size_t)count;
  }
  return done;
}

#endif  // WEFT_TESTS_PROGRAMS_LOOPBACK_H_
