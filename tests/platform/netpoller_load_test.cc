// netpoller_load_test.cc - thousands of operations in flight: full rings, overflow, exact counts.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <vector>

#include "platform/sim/sim_random.h"
#include "tests/platform/test_platform.h"
#include "tests/platform/test_seed.h"

namespace weft::platform_test {
namespace {

constexpr size_t kMany = 5000;

}  // namespace

TEMPLATE_TEST_CASE("load: 5000 operations complete at one blow", "[netpoller][load]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto [left, right] = platform.make_stream_pair();
  std::vector<Request> requests(kMany);
  size_t total = 0;
  for (Request& request : requests) {
    request.op = poll_op(left, POLLIN);
    request.then = [&](Request&) { total++; };
    netpoller.submit(request);
  }
  netpoller.poll(kNow);
  REQUIRE(total == 0);
  REQUIRE(netpoller.in_flight() == kMany);
  REQUIRE(send_all(platform, right, "x"));
  REQUIRE(drive(platform, [&] { return total == kMany; }));
  for (const Request& request : requests) {
    REQUIRE(request.deliveries == 1);
    REQUIRE(request.result == POLLIN);
  }
  REQUIRE(netpoller.in_flight() == 0);
}

TEMPLATE_TEST_CASE("load: operations that complete at once, submitted in one turn",
                   "[netpoller][load]", WEFT_ALL_PLATFORMS) {
  // More completions than a ring holds, made while submit() itself must hand entries over.
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  char byte = 0;
  std::vector<Request> requests(kMany);
  std::vector<size_t> order;
  for (size_t i = 0; i < kMany; i++) {
    requests[i].op = read_op(12345, &byte, 1);
    requests[i].then = [&order, i](Request&) { order.push_back(i); };
    netpoller.submit(requests[i]);
  }
  REQUIRE(netpoller.in_flight() == kMany);
  netpoller.flush();
  // All have completed, wherever they are kept: one poll() delivers every one.
  if (platform.is_ordered()) REQUIRE(netpoller.poll(kNow) == kMany);
  REQUIRE(drive(platform, [&] { return order.size() == kMany; }));
  for (size_t i = 0; i < kMany; i++) {
    REQUIRE(requests[i].deliveries == 1);
    REQUIRE(requests[i].result == -EBADF);
    if (platform.is_ordered()) REQUIRE(order[i] == i);
  }
  REQUIRE(netpoller.in_flight() == 0);
}

TEMPLATE_TEST_CASE("load: thousands cancelled, half of them again in flight", "[netpoller][load]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto [reader, writer] = platform.make_pipe();
  static_cast<void>(writer);
  char byte = 0;
  std::vector<Request> requests(kMany);
  platform::SimRandom random(test_seed());
  size_t total = 0;
  size_t wrong = 0;
  for (Request& request : requests) {
    request.op = read_op(reader, &byte, 1);
    const bool again = random.below(2) == 0;
    request.then = [&, again](Request& self) {
      total++;
      if (self.result != -ECANCELED) wrong++;
      if (!again || self.deliveries == 2) return;
      netpoller.submit(self);
      netpoller.cancel(self);
    };
    netpoller.submit(request);
  }
  netpoller.flush();
  for (Request& request : requests) netpoller.cancel(request);
  REQUIRE(drive(platform, [&] { return netpoller.in_flight() == 0; }));
  REQUIRE(wrong == 0);
  REQUIRE(total >= kMany);
}

TEMPLATE_TEST_CASE("load: many streams at once lose and double nothing", "[netpoller][load]",
                   WEFT_ALL_PLATFORMS) {
  // 64 streams, each with a sender and a receiver of random sizes: the bytes that arrive are the
  // bytes that left, in order.
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  constexpr size_t kStreams = 64;
  constexpr size_t kBytes = 4096;
  struct Stream {
    Request sending;
    Request receiving;
    std::string out;
    std::string in;
    size_t sent = 0;
    char buffer[256] = {};
  };
  std::vector<Stream> streams(kStreams);
  platform::SimRandom random(test_seed() + 1);
  for (Stream& stream : streams) {
    const auto [left, right] = platform.make_stream_pair();
    for (size_t i = 0; i < kBytes; i++) stream.out += static_cast<char>('a' + random.below(26));
    const auto send_next = [&netpoller, &stream, &random, fd = left] {
      const size_t length = std::min<size_t>(1 + random.below(300), kBytes - stream.sent);
      stream.sending.op = send_op(fd, stream.out.data() + stream.sent, length, MSG_NOSIGNAL);
      netpoller.submit(stream.sending);
    };
    const auto receive_next = [&netpoller, &stream, &random, fd = right] {
      stream.receiving.op = receive_op(fd, stream.buffer, 1 + random.below(256));
      netpoller.submit(stream.receiving);
    };
    stream.sending.then = [&stream, send_next](Request& self) {
      if (self.result <= 0) return;
      stream.sent += static_cast<size_t>(self.result);
      if (stream.sent < kBytes) send_next();
    };
    stream.receiving.then = [&stream, receive_next](Request& self) {
      if (self.result <= 0) return;
      stream.in.append(stream.buffer, static_cast<size_t>(self.result));
      if (stream.in.size() < kBytes) receive_next();
    };
    send_next();
    receive_next();
  }
  REQUIRE(drive(platform, [&] { return netpoller.in_flight() == 0; }));
  for (const Stream& stream : streams) {
    REQUIRE(stream.sent == kBytes);
    REQUIRE(stream.in == stream.out);
  }
}

}  // namespace weft::platform_test
