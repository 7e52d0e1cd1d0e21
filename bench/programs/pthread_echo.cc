// pthread_echo - TCP echo with one blocking thread per connection: what a user would write first.
// Usage: pthread_echo PORT. It is the program of the echo tables, natively and under weft; nothing
// in it knows of weft. Read next: uring_echo.cc, the other end of the scale.
// SPDX-License-Identifier: Apache-2.0
#include "bench/programs/socket.h"

namespace {

bool write_all(int fd, const char* data, size_t length) {
  while (length > 0) {
    const ssize_t count = write(fd, data, length);
    if (count <= 0) return false;
    data += count;
    length -= static_cast<size_t>(count);
  }
  return true;
}

void* serve(void* argument) {
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(argument));
  // The messages of the benches are 64 bytes and 1 KiB. What a thread keeps on its stack counts in the
  // memory per connection: a 4 KiB buffer would be a page more, natively and under weft.
  char buffer[1024];
  for (;;) {
    const ssize_t count = read(fd, buffer, sizeof buffer);
    if (count <= 0) break;
    if (!write_all(fd, buffer, static_cast<size_t>(count))) break;
  }
  close(fd);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  const uint16_t port = bench::parse_port(argc == 2 ? argv[1] : nullptr, "pthread_echo PORT");
  bench::serve_by_threads(bench::listen_on(port), serve);
}
