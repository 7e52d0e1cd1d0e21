// test_platform.cc - the suite's requests, operations and loop, the same for every platform.
// SPDX-License-Identifier: Apache-2.0
#include "tests/platform/test_platform.h"

#include <chrono>
#include <memory>

namespace weft::platform_test {
namespace {

Op plain_op(OpKind kind, int fd, const void* address, size_t length) {
  Op op;
  op.kind = kind;
  op.fd = fd;
  op.address = reinterpret_cast<uintptr_t>(address);
  op.length = static_cast<uint32_t>(length);
  return op;
}

}  // namespace

Request::Request() {
  done = [](Completion& completion) {
    auto& self = static_cast<Request&>(completion);
    self.deliveries++;
    if (self.then) self.then(self);
  };
}

Request::Request(const Op& operation) : Request() {
  op = operation;
}

bool drive(TestPlatform& platform, const std::function<bool()>& condition, int64_t deadline_ns) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    if (!platform.step(deadline_ns)) return condition();
  }
  return true;
}

int64_t run(TestPlatform& platform, const Op& op) {
  // On the heap and leaked when it never ends: the engine still owns it then.
  auto request = std::make_unique<Request>(op);
  platform.netpoller().submit(*request);
  if (!drive(platform, [&] { return request->deliveries != 0; })) {
    static_cast<void>(request.release());
    return INT64_MIN;
  }
  return request->result;
}

Op read_op(int fd, void* address, size_t length, uint64_t offset) {
  Op op = plain_op(OpKind::read, fd, address, length);
  op.offset = offset;
  return op;
}

Op write_op(int fd, const void* address, size_t length, uint64_t offset) {
  Op op = plain_op(OpKind::write, fd, address, length);
  op.offset = offset;
  return op;
}

Op receive_op(int fd, void* address, size_t length, unsigned flags) {
  Op op = plain_op(OpKind::receive, fd, address, length);
  op.op_flags = flags;
  return op;
}

Op send_op(int fd, const void* address, size_t length, unsigned flags) {
  Op op = plain_op(OpKind::send, fd, address, length);
  op.op_flags = flags;
  return op;
}

Op message_op(OpKind kind, int fd, msghdr& message, unsigned flags) {
  Op op = plain_op(kind, fd, &message, 0);
  op.op_flags = flags;
  return op;
}

Op accept_op(int fd, sockaddr_in* address, socklen_t* length) {
  Op op = plain_op(OpKind::accept, fd, address, 0);
  op.second = reinterpret_cast<uintptr_t>(length);
  return op;
}

Op connect_op(int fd, const sockaddr_in& address) {
  Op op = plain_op(OpKind::connect, fd, &address, 0);
  op.second = sizeof address;
  return op;
}

Op poll_op(int fd, unsigned events) {
  Op op = plain_op(OpKind::poll, fd, nullptr, 0);
  op.op_flags = events;
  return op;
}

Op futex_op(uint32_t& word, uint32_t expected) {
  Op op = plain_op(OpKind::futex_wait, -1, &word, 0);
  op.second = expected;
  op.op_flags = 2 | 128;  // FUTEX2_SIZE_U32 | FUTEX2_PRIVATE
  op.offset = ~uint32_t{0};
  return op;
}

bool send_all(TestPlatform& platform, int fd, const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const int64_t result =
        run(platform, send_op(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL));
    if (result <= 0) return false;
    sent += static_cast<size_t>(result);
  }
  return true;
}

std::string receive_all(TestPlatform& platform, int fd, size_t length) {
  std::string text(length, '\0');
  size_t received = 0;
  while (received < length) {
    const int64_t result = run(platform, receive_op(fd, text.data() + received, length - received));
    if (result <= 0) break;
    received += static_cast<size_t>(result);
  }
  text.resize(received);
  return text;
}

}  // namespace weft::platform_test
