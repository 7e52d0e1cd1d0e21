// pthread_http - HTTP/1.1 hello with keep-alive, one blocking thread per connection.
// Usage: pthread_http PORT. It parses as little as wrk and curl need: a request ends at a blank
// line and has no body; pipelined requests are answered in order; every path gets the same reply.
// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "bench/programs/socket.h"

namespace {

constexpr std::string_view kReply =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: 12\r\n"
    "\r\n"
    "hello, world";
constexpr std::string_view kBlankLine = "\r\n\r\n";

// Answers each complete request in the buffer and moves the rest to its front.
// Returns the bytes that are left, or -1 if the peer is gone.
ssize_t answer_requests(int fd, char* buffer, size_t length) {
  std::string_view rest(buffer, length);
  for (;;) {
    const size_t end = rest.find(kBlankLine);
    if (end == std::string_view::npos) break;
    // The reply is far smaller than the socket buffer of a client that reads.
    if (write(fd, kReply.data(), kReply.size()) != static_cast<ssize_t>(kReply.size())) return -1;
    rest.remove_prefix(end + kBlankLine.size());
  }
  std::memmove(buffer, rest.data(), rest.size());
  return static_cast<ssize_t>(rest.size());
}

void* serve(void* argument) {
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(argument));
  char buffer[8192];
  size_t length = 0;
  // A request that does not fit the buffer ends the connection.
  while (length < sizeof buffer) {
    const ssize_t count = read(fd, buffer + length, sizeof buffer - length);
    if (count <= 0) break;
    const ssize_t left = answer_requests(fd, buffer, length + static_cast<size_t>(count));
    if (left < 0) break;
    length = static_cast<size_t>(left);
  }
  close(fd);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  const uint16_t port = bench::parse_port(argc == 2 ? argv[1] : nullptr, "pthread_http PORT");
  bench::serve_by_threads(bench::listen_on(port), serve);
}
