// epoll_echo - TCP echo as a classic event loop: one thread, level-triggered epoll, read and write.
// Usage: epoll_echo PORT. A message must fit the socket's send buffer (a short write ends the
// connection with a line on stderr): enough for the tables' 64 bytes.
// SPDX-License-Identifier: Apache-2.0
#include <sys/epoll.h>

#include "bench/programs/socket.h"

namespace {

constexpr int kEventsMax = 512;

void watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) bench::die("epoll_ctl", errno);
}

void accept_all(int epoll, int listener) {
  for (;;) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN) return;
      if (errno == EINTR || errno == ECONNABORTED) continue;
      bench::die("accept4", errno);
    }
    bench::set_nodelay(fd);
    watch(epoll, fd);
  }
}

void echo(int fd) {
  char buffer[4096];
  const ssize_t count = read(fd, buffer, sizeof buffer);
  if (count < 0 && errno == EAGAIN) return;
  if (count > 0) {
    const ssize_t written = write(fd, buffer, static_cast<size_t>(count));
    if (written == count) return;
    if (written >= 0) std::fprintf(stderr, "epoll_echo: short write, connection dropped\n");
  }
  close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  const uint16_t port = bench::parse_port(argc == 2 ? argv[1] : nullptr, "epoll_echo PORT");
  const int listener = bench::listen_on(port, SOCK_NONBLOCK);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) bench::die("epoll_create1", errno);
  watch(epoll, listener);
  epoll_event events[kEventsMax];
  for (;;) {
    const int count = epoll_wait(epoll, events, kEventsMax, -1);
    if (count < 0 && errno != EINTR) bench::die("epoll_wait", errno);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == listener) {
        accept_all(epoll, listener);
      } else {
        echo(events[i].data.fd);
      }
    }
  }
}
