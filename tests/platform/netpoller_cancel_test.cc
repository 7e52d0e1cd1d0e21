// netpoller_cancel_test.cc - cancel(): an operation completes or is cancelled, never both, never
// neither; and a cancelled one had no effect.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "platform/sim/sim_random.h"
#include "tests/platform/test_platform.h"
#include "tests/platform/test_seed.h"

namespace weft::platform_test {

TEMPLATE_TEST_CASE("cancel: a parked operation ends without effect", "[netpoller][cancel]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto [left, right] = platform.make_stream_pair();
  const auto [reader, writer] = platform.make_pipe();
  static_cast<void>(writer);
  sockaddr_in address = {};
  const int listener = platform.make_listener(address);
  uint32_t word = 1;
  char byte = 0;
  std::vector<Op> ops = {receive_op(left, &byte, 1), read_op(reader, &byte, 1),
                         poll_op(left, POLLIN), accept_op(listener)};
  if (netpoller.supports(OpKind::futex_wait)) ops.push_back(futex_op(word, 1));
  for (const Op& op : ops) {
    CAPTURE(static_cast<int>(op.kind));
    for (const bool started : {true, false}) {
      Request request(op);
      netpoller.submit(request);
      if (started) netpoller.poll(kNow);
      netpoller.cancel(request);
      netpoller.cancel(request);
      REQUIRE(drive(platform, [&] { return request.deliveries != 0; }));
      REQUIRE(request.deliveries == 1);
      REQUIRE(request.result == -ECANCELED);
    }
  }
  REQUIRE(send_all(platform, right, "z"));
  REQUIRE(receive_all(platform, left, 1) == "z");
  REQUIRE(netpoller.in_flight() == 0);
}

TEMPLATE_TEST_CASE("cancel: too late changes nothing, also for the next user of the memory",
                   "[netpoller][cancel]", WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto [left, right] = platform.make_stream_pair();
  const auto [trigger, starter] = platform.make_stream_pair();
  char byte = 0;
  for (int i = 0; i < 200; i++) {
    // The cancel is asked for in the same turn as the completion arrives, and done() puts a new
    // operation into the same memory: the old cancel must not hit it.
    Request first(receive_op(left, &byte, 1));
    char ignored = 0;
    Request other(receive_op(trigger, &ignored, 1));
    netpoller.submit(other);
    netpoller.submit(first);
    netpoller.poll(kNow);
    int64_t first_result = 0;
    first.then = [&](Request& self) {
      if (self.deliveries != 1) return;
      first_result = self.result;
      netpoller.submit(self);
    };
    other.then = [&](Request&) {
      if (first.deliveries == 0) netpoller.cancel(first);
    };
    std::array<Request, 2> sending;
    sending[0].op = send_op(starter, "s", 1, MSG_NOSIGNAL);
    sending[1].op = send_op(right, "a", 1, MSG_NOSIGNAL);
    for (Request& request : sending) netpoller.submit(request);
    REQUIRE(drive(platform, [&] {
      return first.deliveries >= 1 && other.deliveries == 1 && sending[0].deliveries == 1 &&
             sending[1].deliveries == 1;
    }));
    // In use again, and parked unless the first use was cancelled and left its byte there.
    const bool cancelled = first_result == -ECANCELED;
    if (!cancelled) {
      REQUIRE(first_result == 1);
      REQUIRE(first.deliveries == 1);
      REQUIRE(netpoller.in_flight() == 1);
      REQUIRE(send_all(platform, right, "b"));
    }
    REQUIRE(drive(platform, [&] { return first.deliveries == 2; }));
    REQUIRE(first.result == 1);
    REQUIRE(netpoller.in_flight() == 0);
  }
}

TEMPLATE_TEST_CASE("cancel: from done(), of an operation in the same batch", "[netpoller][cancel]",
                   WEFT_ALL_PLATFORMS) {
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto [left, right] = platform.make_stream_pair();
  static_cast<void>(right);
  std::array<Request, 8> requests;
  int total = 0;
  for (Request& request : requests) {
    request.op = poll_op(left, POLLOUT);
    request.then = [&](Request&) {
      total++;
      for (Request& other : requests) {
        if (other.deliveries == 0) netpoller.cancel(other);
      }
    };
  }
  for (Request& request : requests) netpoller.submit(request);
  REQUIRE(drive(platform, [&] { return total == 8; }));
  for (Request& request : requests) {
    REQUIRE(request.deliveries == 1);
    REQUIRE((request.result == POLLOUT || request.result == -ECANCELED));
  }
  REQUIRE(netpoller.in_flight() == 0);
}

namespace {

// One race: a receive, the byte for it on its way from another kernel thread, and a cancel.
struct Race {
  Race(TestPlatform& of, int fd) : platform(of), receiving(receive_op(fd, &byte, 1)) {}

  // Returns whether the receive won; counts what must not be.
  bool finish(std::atomic<uint32_t>& failures) {
    if (!drive(platform, [&] { return receiving.deliveries != 0; })) failures++;
    if (receiving.deliveries != 1) failures++;
    if (receiving.result == 1) return true;
    if (receiving.result != -ECANCELED) failures++;
    // No effect: the byte is still there.
    char late = 0;
    if (run(platform, receive_op(receiving.op.fd, &late, 1)) != 1) failures++;
    return false;
  }

  TestPlatform& platform;
  char byte = 0;
  Request receiving;
};

}  // namespace

TEMPLATE_TEST_CASE("cancel: races with data from another kernel thread", "[netpoller][cancel]",
                   WEFT_URING_PLATFORMS) {
  // Method: 10,000 times one byte is on its way from a second kernel thread while the owner cancels
  // the receive: every other time at once, else from done() of another receive whose byte is sent
  // at the same time, so that both completions may stand in the ring together.
  // Exactly one delivery, and the byte is either in it or still in the socket.
  TestType platform;
  Netpoller& netpoller = platform.netpoller();
  const auto pair = platform.make_stream_pair();
  const auto trigger = platform.make_stream_pair();
  constexpr uint32_t kRounds = 10'000;
  std::atomic<uint32_t> go{0};
  std::atomic<uint32_t> failures{0};
  std::thread sender([&, fd = pair.second, trigger_fd = trigger.second] {
    for (uint32_t round = 1; round <= kRounds; round++) {
      while (go.load(std::memory_order_acquire) < round) std::this_thread::yield();
      if (round % 4 < 2 && ::write(trigger_fd, "t", 1) != 1) failures++;
      if (::write(fd, "x", 1) != 1) failures++;
      if (round % 4 >= 2 && ::write(trigger_fd, "t", 1) != 1) failures++;
    }
  });
  uint32_t completed = 0;
  platform::SimRandom random(test_seed());
  for (uint32_t round = 1; round <= kRounds && failures == 0; round++) {
    Race race(platform, pair.first);
    char ignored = 0;
    Request other(receive_op(trigger.first, &ignored, 1));
    if (round % 2 == 0) {
      other.then = [&](Request&) {
        if (race.receiving.deliveries == 0) netpoller.cancel(race.receiving);
      };
    }
    netpoller.submit(race.receiving);
    netpoller.submit(other);
    netpoller.poll(kNow);
    go.store(round, std::memory_order_release);
    // A few turns of nothing move the cancel across the arrival of the byte.
    for (uint64_t i = random.below(3000); i > 0; i--) asm volatile("" ::: "memory");
    if (round % 2 == 1) netpoller.cancel(race.receiving);
    if (!drive(platform, [&] { return other.deliveries == 1; })) failures++;
    if (race.finish(failures)) completed++;
    if (netpoller.in_flight() != 0) failures++;
  }
  go.store(kRounds, std::memory_order_release);
  sender.join();
  INFO("completed " << completed << " of " << kRounds);
  REQUIRE(failures == 0);
  // Both sides of the race were seen, or it was none.
  REQUIRE(completed > 0);
  REQUIRE(completed < kRounds);
}

TEST_CASE("cancel: 10,000 seeds of the simulated race", "[sim][cancel]") {
  uint32_t completed = 0;
  constexpr uint64_t kSeeds = 10'000;
  for (uint64_t i = 0; i < kSeeds; i++) {
    platform::SimOptions options;
    options.seed = test_seed() + i;
    options.delay_probability = 0.5;
    options.cancel_delay_probability = 0.5;
    options.delay_max_ns = 1000;
    options.shuffle = true;
    SimPlatform platform(options);
    CAPTURE(options.seed);
    const auto [left, right] = platform.make_stream_pair();
    Race race(platform, left);
    Request sending(send_op(right, "x", 1, MSG_NOSIGNAL));
    platform.netpoller().submit(race.receiving);
    platform::SimRandom random(options.seed);
    if (random.below(2) == 0) platform.netpoller().poll(kNow);
    platform.netpoller().cancel(race.receiving);
    if (random.below(2) == 0) platform.netpoller().poll(kNow);
    platform.netpoller().submit(sending);
    std::atomic<uint32_t> failures{0};
    if (race.finish(failures)) completed++;
    REQUIRE(failures == 0);
    REQUIRE(drive(platform, [&] { return platform.netpoller().in_flight() == 0; }));
    REQUIRE(sending.deliveries == 1);
  }
  REQUIRE(completed > 0);
  REQUIRE(completed < kSeeds);
}

}  // namespace weft::platform_test
