// netpoller_contract_test.cc - every operation of platform/netpoller.h, on every netpoller.
// Method: one operation at a time against descriptors whose state the test makes; results are those
// of the system call of the same name (its man page), as bytes or -errno.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "tests/platform/test_platform.h"

namespace weft::platform_test {

#define REQUIRE_IDLE(platform) REQUIRE((platform).netpoller().in_flight() == 0)

TEMPLATE_TEST_CASE("read, write: a pipe carries bytes and then the end", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  const auto [reader, writer] = platform.make_pipe();
  char buffer[16] = {};
  REQUIRE(run(platform, write_op(writer, "hello", 1)) == 1);
  // pipe(7): a read returns what there is, however much was asked for.
  REQUIRE(run(platform, read_op(reader, buffer, sizeof buffer)) == 1);
  REQUIRE(buffer[0] == 'h');
  Request parked(read_op(reader, buffer, sizeof buffer));
  platform.netpoller().submit(parked);
  platform.netpoller().poll(kNow);
  REQUIRE(parked.deliveries == 0);
  REQUIRE(platform.netpoller().in_flight() == 1);
  REQUIRE(run(platform, write_op(writer, "x", 1)) == 1);
  REQUIRE(drive(platform, [&] { return parked.deliveries != 0; }));
  REQUIRE(parked.deliveries == 1);
  REQUIRE(parked.result == 1);
  platform.close(writer);
  REQUIRE(run(platform, read_op(reader, buffer, sizeof buffer)) == 0);
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("read, write: a file keeps offsets and its position apart", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  const int fd = platform.make_file("0123456789");
  // read(2) may be short: ask for one byte where the test needs an exact count.
  char byte = 0;
  REQUIRE(run(platform, read_op(fd, &byte, 1, 7)) == 1);
  REQUIRE(byte == '7');
  for (const char expected : {'0', '1', '2'}) {
    REQUIRE(run(platform, read_op(fd, &byte, 1)) == 1);
    REQUIRE(byte == expected);
  }
  REQUIRE(run(platform, write_op(fd, "x", 1, 4)) == 1);
  REQUIRE(run(platform, write_op(fd, "y", 1)) == 1);
  REQUIRE(run(platform, read_op(fd, &byte, 1, 4)) == 1);
  REQUIRE(byte == 'x');
  REQUIRE(run(platform, read_op(fd, &byte, 1, 3)) == 1);
  REQUIRE(byte == 'y');
  REQUIRE(run(platform, read_op(fd, &byte, 1, 10)) == 0);
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("read_vector, write_vector: buffers are filled in order", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  const int fd = platform.make_file("");
  char first[] = "ab";
  char second[] = "cde";
  iovec parts[2] = {{first, 2}, {second, 3}};
  Op op;
  op.kind = OpKind::write_vector;
  op.fd = fd;
  op.address = reinterpret_cast<uintptr_t>(parts);
  op.length = 2;
  op.offset = 0;
  const int64_t written = run(platform, op);
  REQUIRE(written >= 1);
  REQUIRE(written <= 5);
  char one[1] = {};
  char rest[8] = {};
  iovec targets[2] = {{one, 1}, {rest, 8}};
  op.kind = OpKind::read_vector;
  op.address = reinterpret_cast<uintptr_t>(targets);
  const int64_t count = run(platform, op);
  REQUIRE(count >= 1);
  REQUIRE(count <= written);
  const std::string got = std::string(one, 1) + std::string(rest, static_cast<size_t>(count) - 1);
  REQUIRE(got == std::string("abcde").substr(0, static_cast<size_t>(count)));
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("receive, send: flags are honoured", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  const auto [left, right] = platform.make_stream_pair();
  char buffer[16] = {};
  // recv(2), MSG_DONTWAIT: "the call fails with the error EAGAIN".
  REQUIRE(run(platform, receive_op(left, buffer, sizeof buffer, MSG_DONTWAIT)) == -EAGAIN);
  REQUIRE(send_all(platform, right, "abc"));
  REQUIRE(run(platform, receive_op(left, buffer, 1, MSG_PEEK)) == 1);
  REQUIRE(buffer[0] == 'a');
  REQUIRE(receive_all(platform, left, 3) == "abc");
  // MSG_WAITALL: "the operation block[s] until the full request is satisfied".
  Request whole(receive_op(left, buffer, 4, MSG_WAITALL));
  platform.netpoller().submit(whole);
  REQUIRE(send_all(platform, right, "12"));
  REQUIRE(send_all(platform, right, "34"));
  REQUIRE(drive(platform, [&] { return whole.deliveries != 0; }));
  REQUIRE(whole.result == 4);
  REQUIRE(std::string(buffer, 4) == "1234");
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("read_vector, write_vector: RWF_NOWAIT answers EAGAIN", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  const auto [reader, writer] = platform.make_pipe();
  std::string block(4096, 'x');
  iovec part = {block.data(), block.size()};
  Op op;
  op.kind = OpKind::read_vector;
  op.fd = reader;
  op.address = reinterpret_cast<uintptr_t>(&part);
  op.length = 1;
  op.op_flags = RWF_NOWAIT;
  REQUIRE(run(platform, op) == -EAGAIN);
  op.kind = OpKind::write_vector;
  op.fd = writer;
  // pipe(7): a pipe holds at least 4096 bytes, and no pipe of ours more than 1 MiB.
  int64_t written = 0;
  int64_t result = 0;
  while (written <= 1 << 20 && (result = run(platform, op)) > 0) written += result;
  REQUIRE(result == -EAGAIN);
  REQUIRE(written >= 4096);
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("send: parks while the peer does not read", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  const auto [left, right] = platform.make_stream_pair();
  const std::string block(64 * 1024, 'x');
  size_t sent = 0;
  Request request;
  request.then = [&](Request& self) {
    if (self.result <= 0) return;
    sent += static_cast<size_t>(self.result);
    platform.netpoller().submit(self);
  };
  request.op = send_op(left, block.data(), block.size(), MSG_NOSIGNAL);
  platform.netpoller().submit(request);
  // Full: a whole turn in which nothing is delivered, and still one in flight.
  size_t before = SIZE_MAX;
  REQUIRE(drive(platform, [&] {
    if (before == sent) return true;
    before = sent;
    return false;
  }));
  REQUIRE(platform.netpoller().in_flight() == 1);
  request.then = nullptr;
  const int deliveries = request.deliveries;
  REQUIRE(receive_all(platform, right, sent).size() == sent);
  REQUIRE(drive(platform, [&] { return request.deliveries == deliveries + 1; }));
  REQUIRE(request.result > 0);
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("receive_message, send_message: carry a vector of buffers", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  const auto [left, right] = platform.make_stream_pair();
  char first[] = "a";
  char second[] = "bc";
  iovec parts[2] = {{first, 1}, {second, 2}};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  const int64_t sent = run(platform, message_op(OpKind::send_message, left, message, MSG_NOSIGNAL));
  REQUIRE(sent >= 1);
  char got[4] = {};
  iovec target = {got, sizeof got};
  message = {};
  message.msg_iov = &target;
  message.msg_iovlen = 1;
  const int64_t received = run(platform, message_op(OpKind::receive_message, right, message));
  REQUIRE(received >= 1);
  REQUIRE(received <= sent);
  REQUIRE(std::string("abc").compare(0, static_cast<size_t>(received), got,
                                     static_cast<size_t>(received)) == 0);
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("accept, connect: either may come first", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  sockaddr_in address = {};
  const int listener = platform.make_listener(address);
  const int early = platform.make_socket();
  Request accepting(accept_op(listener));
  platform.netpoller().submit(accepting);
  platform.netpoller().poll(kNow);
  REQUIRE(accepting.deliveries == 0);
  REQUIRE(run(platform, connect_op(early, address)) == 0);
  REQUIRE(drive(platform, [&] { return accepting.deliveries != 0; }));
  REQUIRE(accepting.result >= 0);
  const int late = platform.make_socket();
  REQUIRE(run(platform, connect_op(late, address)) == 0);
  sockaddr_in peer = {};
  socklen_t length = sizeof peer;
  const int64_t second = run(platform, accept_op(listener, &peer, &length));
  REQUIRE(second >= 0);
  REQUIRE(length == sizeof peer);
  REQUIRE(peer.sin_family == AF_INET);
  REQUIRE(send_all(platform, late, "late"));
  REQUIRE(receive_all(platform, static_cast<int>(second), 4) == "late");
  platform.close(early);
  char byte = 0;
  REQUIRE(run(platform, receive_op(static_cast<int>(accepting.result), &byte, 1)) == 0);
  platform.close(static_cast<int>(accepting.result));
  platform.close(static_cast<int>(second));
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("errors: are those of the system call", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  char byte = 'x';
  REQUIRE(run(platform, read_op(12345, &byte, 1)) == -EBADF);
  REQUIRE(run(platform, receive_op(12345, &byte, 1)) == -EBADF);
  REQUIRE(run(platform, poll_op(12345, POLLIN)) == -EBADF);
  const sockaddr_in nobody = platform.dead_address();
  REQUIRE(run(platform, connect_op(platform.make_socket(), nobody)) == -ECONNREFUSED);
  const auto [left, right] = platform.make_stream_pair();
  const auto [reader, writer] = platform.make_pipe();
  // send(2), EPIPE: "the local end has been shut down on a connection oriented socket".
  platform.shutdown_write(left);
  REQUIRE(run(platform, send_op(left, &byte, 1, MSG_NOSIGNAL)) == -EPIPE);
  REQUIRE(run(platform, receive_op(right, &byte, 1)) == 0);
  REQUIRE(run(platform, receive_op(reader, &byte, 1)) == -ENOTSOCK);
  REQUIRE(run(platform, write_op(reader, &byte, 1)) == -EBADF);
  REQUIRE(run(platform, accept_op(left)) == -EINVAL);
  static_cast<void>(writer);
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("poll: answers the events that are ready", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  const auto [left, right] = platform.make_stream_pair();
  REQUIRE(run(platform, poll_op(left, POLLIN | POLLOUT)) == POLLOUT);
  Request waiting(poll_op(left, POLLIN));
  platform.netpoller().submit(waiting);
  platform.netpoller().poll(kNow);
  REQUIRE(waiting.deliveries == 0);
  REQUIRE(send_all(platform, right, "x"));
  REQUIRE(drive(platform, [&] { return waiting.deliveries != 0; }));
  REQUIRE(waiting.result == POLLIN);
  // poll(2): POLLHUP is reported whether asked for or not.
  platform.close(right);
  REQUIRE((run(platform, poll_op(left, POLLIN)) & (POLLIN | POLLHUP)) == (POLLIN | POLLHUP));
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("splice, tee: move and copy between pipes", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  const auto [source, feed] = platform.make_pipe();
  const auto [drain, target] = platform.make_pipe();
  REQUIRE(run(platform, write_op(feed, "q", 1)) == 1);
  Op op;
  op.kind = OpKind::tee;
  op.fd = target;
  op.second_fd = source;
  op.length = 16;
  char byte = 0;
  REQUIRE(run(platform, op) == 1);
  REQUIRE(run(platform, read_op(drain, &byte, 1)) == 1);
  REQUIRE(byte == 'q');
  op.kind = OpKind::splice;
  op.offset = kFilePosition;
  op.second = kFilePosition;
  byte = 0;
  REQUIRE(run(platform, op) == 1);
  REQUIRE(run(platform, read_op(drain, &byte, 1)) == 1);
  REQUIRE(byte == 'q');
  // From a file, at its own offset: `second` is the source's, `offset` the target's.
  op.second_fd = platform.make_file("0123456789");
  op.second = 3;
  op.length = 1;
  REQUIRE(run(platform, op) == 1);
  REQUIRE(run(platform, read_op(drain, &byte, 1)) == 1);
  REQUIRE(byte == '3');
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("sync: both kinds succeed on a file", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  Op op;
  op.kind = OpKind::sync;
  op.fd = platform.make_file("data");
  REQUIRE(run(platform, op) == 0);
  op.op_flags = 1;
  REQUIRE(run(platform, op) == 0);
  op.fd = 12345;
  REQUIRE(run(platform, op) == -EBADF);
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("futex_wait: parks on the expected value only", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  uint32_t word = 5;
  if (!platform.netpoller().supports(OpKind::futex_wait)) {
    REQUIRE(run(platform, futex_op(word, 5)) == -ENOSYS);
    REQUIRE_IDLE(platform);
    return;
  }
  REQUIRE(run(platform, futex_op(word, 6)) == -EAGAIN);
  Request waiting(futex_op(word, 5));
  platform.netpoller().submit(waiting);
  platform.netpoller().poll(kNow);
  REQUIRE(waiting.deliveries == 0);
  REQUIRE(drive(platform, [&] { return platform.wake_futex(word, 1) == 1; }));
  REQUIRE(drive(platform, [&] { return waiting.deliveries != 0; }));
  REQUIRE(waiting.result == 0);
  REQUIRE_IDLE(platform);
}

TEMPLATE_TEST_CASE("wait_id: completes when the child ends", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  int gate[2] = {-1, -1};
  REQUIRE(pipe2(gate, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte = 0;
    ::close(gate[1]);
    _exit(::read(gate[0], &byte, 1) == 1 ? 7 : 1);
  }
  siginfo_t info = {};
  Op op;
  op.kind = OpKind::wait_id;
  op.fd = child;
  op.length = P_PID;
  op.op_flags = WEXITED;
  op.address = reinterpret_cast<uintptr_t>(&info);
  Request waiting(op);
  platform.netpoller().submit(waiting);
  platform.netpoller().poll(kNow);
  const bool supported = platform.netpoller().supports(OpKind::wait_id);
  if (supported) REQUIRE(waiting.deliveries == 0);
  REQUIRE(::write(gate[1], "x", 1) == 1);
  REQUIRE(drive(platform, [&] { return waiting.deliveries != 0; }));
  if (supported) {
    REQUIRE(waiting.result == 0);
    REQUIRE(info.si_pid == child);
    REQUIRE(info.si_status == 7);
    REQUIRE(waitpid(child, nullptr, WNOHANG) == -1);
  } else {
    REQUIRE(waiting.result == -ENOSYS);
    REQUIRE(waitpid(child, nullptr, 0) == child);
  }
  ::close(gate[0]);
  ::close(gate[1]);
  REQUIRE_IDLE(platform);
}

}  // namespace weft::platform_test
