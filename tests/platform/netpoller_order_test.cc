// netpoller_order_test.cc - when completions come: deadlines, wake-ups, order, done() that submits.
// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "tests/platform/test_platform.h"

namespace weft::platform_test {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

}  // namespace

TEMPLATE_TEST_CASE("poll: a deadline is never early, whatever it is", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  // With and without an operation that stays parked; and with one submitted in the same turn.
  const auto [reader, writer] = platform.make_pipe();
  static_cast<void>(writer);
  char byte = 0;
  Request parked(read_op(reader, &byte, 1));
  for (const int64_t wait_ns : {int64_t{1}, int64_t{1000}, kMillisecond, 7 * kMillisecond}) {
    const int64_t deadline = netpoller.now_ns() + wait_ns;
    if (wait_ns == kMillisecond) netpoller.submit(parked);
    int turns = 0;
    REQUIRE(drive(
        platform, [&] { return turns++ != 0 && netpoller.now_ns() >= deadline; }, deadline));
    // A poll() that ran out before its deadline turns on the spot; a signal may excuse a few.
    REQUIRE(turns <= 5);
  }
  REQUIRE(parked.deliveries == 0);
  netpoller.cancel(parked);
  REQUIRE(drive(platform, [&] { return parked.deliveries != 0; }));
  REQUIRE(netpoller.in_flight() == 0);
}

TEMPLATE_TEST_CASE("poll: returns at once for now and for the past", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto [reader, writer] = platform.make_pipe();
  static_cast<void>(writer);
  char byte = 0;
  Request parked(read_op(reader, &byte, 1));
  netpoller.submit(parked);
  // Nothing will ever complete: a poll that waited would hang the test.
  for (int i = 0; i < 1000; i++) {
    REQUIRE(netpoller.poll(kNow) == 0);
    REQUIRE(netpoller.poll(1) == 0);
    REQUIRE(netpoller.poll(netpoller.now_ns()) == 0);
  }
  netpoller.cancel(parked);
  REQUIRE(drive(platform, [&] { return parked.deliveries != 0; }));
  REQUIRE(netpoller.in_flight() == 0);
}

TEMPLATE_TEST_CASE("poll: a completion ends the wait before the deadline", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto [left, right] = platform.make_stream_pair();
  char byte = 0;
  Request receiving(receive_op(left, &byte, 1));
  Request sending(send_op(right, "x", 1, MSG_NOSIGNAL));
  netpoller.submit(receiving);
  netpoller.submit(sending);
  const int64_t far = netpoller.now_ns() + 3600 * 1000 * kMillisecond;
  REQUIRE(drive(platform, [&] { return receiving.deliveries != 0 && sending.deliveries != 0; }));
  REQUIRE(netpoller.now_ns() < far);
  REQUIRE(receiving.result == 1);
}

TEMPLATE_TEST_CASE("poll: for now finds what came from outside since", "[netpoller]",
                   WEFT_URING_PLATFORMS) {
  // A worker that is never idle only ever polls for now. Nothing is handed over meanwhile, so only
  // the completion itself can tell that there is one.
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto pair = platform.make_stream_pair();
  for (int i = 0; i < 100; i++) {
    char byte = 0;
    Request receiving(receive_op(pair.first, &byte, 1));
    netpoller.submit(receiving);
    REQUIRE(netpoller.poll(kNow) == 0);
    std::thread([&] { static_cast<void>(!::write(pair.second, "x", 1)); }).join();
    const int64_t limit = netpoller.now_ns() + 20'000 * kMillisecond;
    while (receiving.deliveries == 0 && netpoller.now_ns() < limit) netpoller.poll(kNow);
    REQUIRE(receiving.deliveries == 1);
  }
}

TEMPLATE_TEST_CASE("submit: may be called from done()", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto [left, right] = platform.make_stream_pair();
  // Each arrival sends the next byte and receives again: more rounds than any ring has entries.
  constexpr int kRounds = 3000;
  char out = 'o';
  char in = 0;
  Request sending(send_op(right, &out, 1, MSG_NOSIGNAL));
  Request receiving(receive_op(left, &in, 1));
  int rounds = 0;
  const auto next = [&](Request&) {
    if (sending.deliveries != receiving.deliveries || ++rounds == kRounds) return;
    netpoller.submit(receiving);
    netpoller.submit(sending);
  };
  sending.then = next;
  receiving.then = next;
  netpoller.submit(receiving);
  netpoller.submit(sending);
  REQUIRE(drive(platform, [&] { return rounds == kRounds; }));
  REQUIRE(receiving.deliveries == kRounds);
  REQUIRE(sending.deliveries == kRounds);
  REQUIRE(netpoller.in_flight() == 0);
}

TEMPLATE_TEST_CASE("poll: one call delivers what is there and ends", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  // done() that submits an operation which completes at once must not keep poll() for ever.
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  char byte = 0;
  Request failing(read_op(12345, &byte, 1));
  failing.then = [&](Request& self) {
    if (self.deliveries < 5000) netpoller.submit(self);
    netpoller.flush();
  };
  netpoller.submit(failing);
  REQUIRE(drive(platform, [&] {
    REQUIRE(netpoller.poll(kNow) <= 2);
    return failing.deliveries == 5000;
  }));
  REQUIRE(netpoller.in_flight() == 0);
}

TEMPLATE_TEST_CASE("poll: delivers in order of arrival", "[netpoller]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  if (!platform.is_ordered()) return;  // the sim shuffles what arrives together
  Netpoller& netpoller = platform.netpoller();
  std::vector<std::pair<int, int>> pairs;
  for (int i = 0; i < 20; i++) pairs.push_back(platform.make_stream_pair());
  std::vector<int> order;
  char bytes[20] = {};
  std::vector<Request> receiving(20);
  std::vector<Request> sending(20);
  for (size_t i = 20; i-- > 0;) {
    receiving[i].op = receive_op(pairs[i].first, &bytes[i], 1);
    receiving[i].then = [&order, i](Request&) { order.push_back(static_cast<int>(i)); };
    netpoller.submit(receiving[i]);
  }
  netpoller.poll(kNow);
  for (size_t i = 0; i < 20; i++) {
    sending[i].op = send_op(pairs[i].second, "x", 1, MSG_NOSIGNAL);
    netpoller.submit(sending[i]);
  }
  REQUIRE(drive(platform, [&] { return netpoller.in_flight() == 0; }));
  REQUIRE(order.size() == 20);
  for (size_t i = 0; i < 20; i++) REQUIRE(order[i] == static_cast<int>(i));
}

TEMPLATE_TEST_CASE("wake: before a poll it is remembered, once", "[netpoller]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  for (int i = 0; i < 100; i++) {
    const int64_t far = netpoller.now_ns() + 3600 * 1000 * kMillisecond;
    netpoller.wake();
    if (i % 2 == 1) netpoller.wake();
    REQUIRE(netpoller.poll(far) == 0);
    REQUIRE(netpoller.now_ns() < far);
  }
  // All used up: the next wait lasts.
  const int64_t deadline = netpoller.now_ns() + 2 * kMillisecond;
  int turns = 0;
  REQUIRE(drive(
      platform, [&] { return turns++ != 0 && netpoller.now_ns() >= deadline; }, deadline));
  REQUIRE(turns <= 5);
}

TEMPLATE_TEST_CASE("wake: from another kernel thread, none is lost", "[netpoller]",
                   WEFT_URING_PLATFORMS) {
  // Goal: the sleep protocol. Method: the other thread gives one item of work at a time and wakes;
  // the owner sleeps without work. A lost wake-up leaves the owner in a poll() of 20 s.
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  constexpr uint32_t kItems = 30'000;
  std::atomic<uint32_t> made{0};
  std::atomic<uint32_t> used{0};
  std::thread maker([&] {
    for (uint32_t item = 1; item <= kItems; item++) {
      made.store(item, std::memory_order_relaxed);
      netpoller.wake();
      // Every third item comes while the owner may still be awake.
      while (item % 3 != 0 && used.load(std::memory_order_acquire) < item) {
        std::this_thread::yield();
      }
    }
  });
  bool lost = false;
  while (used.load(std::memory_order_relaxed) < kItems && !lost) {
    const int64_t start = netpoller.now_ns();
    netpoller.poll(start + 20'000 * kMillisecond);
    // A wake-up that came before the item is a spurious one, allowed; time passing is a lost one.
    lost = netpoller.now_ns() - start >= 20'000 * kMillisecond;
    used.store(made.load(std::memory_order_relaxed), std::memory_order_release);
  }
  used.store(kItems, std::memory_order_release);
  maker.join();
  REQUIRE_FALSE(lost);
  REQUIRE(netpoller.in_flight() == 0);
}

}  // namespace weft::platform_test
