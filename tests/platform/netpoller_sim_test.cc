// netpoller_sim_test.cc - what only the simulation promises: the same run for the same seed, time
// that moves by advance() alone, several netpollers in one world, and a deadlock that is told.
// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "platform/sim/netpoller_sim.h"
#include "tests/platform/test_platform.h"
#include "tests/platform/test_seed.h"

namespace weft::platform_test {
namespace {

platform::SimOptions faulty(uint64_t seed) {
  platform::SimOptions options;
  options.seed = seed;
  options.short_probability = 0.5;
  options.delay_probability = 0.5;
  options.cancel_delay_probability = 0.5;
  options.shuffle = true;
  return options;
}

// A run with many operations of all kinds of fate, as text: who completed when with what.
std::string log_of(uint64_t seed) {
  SimPlatform platform(faulty(seed));
  Netpoller& netpoller = platform.netpoller();
  std::string log;
  std::vector<Request> requests(40);
  std::vector<std::vector<char>> buffers(requests.size(), std::vector<char>(100));
  for (size_t i = 0; i < requests.size(); i += 2) {
    const auto [left, right] = platform.make_stream_pair();
    requests[i].op = receive_op(left, buffers[i].data(), 100);
    requests[i + 1].op = send_op(right, buffers[i + 1].data(), 100);
  }
  for (size_t i = 0; i < requests.size(); i++) {
    requests[i].then = [&, i](Request& self) {
      log += std::to_string(i) + "=" + std::to_string(self.result) + "@" +
             std::to_string(netpoller.now_ns()) + " ";
    };
    netpoller.submit(requests[i]);
    if (i % 5 == 0) netpoller.cancel(requests[i]);
  }
  REQUIRE(drive(platform, [&] { return netpoller.in_flight() == 0; }));
  return log;
}

}  // namespace

TEST_CASE("sim: the same seed gives the same run, another one another", "[sim]") {
  const uint64_t seed = test_seed();
  const std::string log = log_of(seed);
  REQUIRE(log == log_of(seed));
  REQUIRE(log == log_of(seed));
  size_t different = 0;
  for (uint64_t i = 1; i <= 20; i++) different += log_of(seed + i) != log ? 1U : 0U;
  REQUIRE(different == 20);
}

TEST_CASE("sim: the random numbers are the published ones", "[sim]") {
  // The first outputs of SplitMix64 for seed 1234567, as its authors' code prints them.
  platform::SimRandom random(1234567);
  REQUIRE(random.next() == 6457827717110365317U);
  REQUIRE(random.next() == 3203168211198807973U);
  REQUIRE(random.next() == 9817491932198370423U);
}

TEST_CASE("sim: time moves in advance() only, to the earliest deadline", "[sim]") {
  platform::SimWorld world;
  platform::SimNetpoller first(world);
  platform::SimNetpoller second(world);
  const int64_t start = world.now_ns();
  REQUIRE(first.poll(start + 500) == 0);
  REQUIRE(second.poll(start + 200) == 0);
  REQUIRE(world.now_ns() == start);
  REQUIRE(world.advance());
  REQUIRE(world.now_ns() == start + 200);
  // Not polled since, so its deadline stands: time does not pass it.
  REQUIRE(world.advance());
  REQUIRE(world.now_ns() == start + 200);
  REQUIRE(second.poll(start + 900) == 0);
  REQUIRE(world.advance());
  REQUIRE(world.now_ns() == start + 500);
  REQUIRE(first.poll(kForever) == 0);
  REQUIRE(second.poll(kForever) == 0);
  // Nobody waits for a time and nothing is under way.
  REQUIRE_FALSE(world.advance());
}

TEST_CASE("sim: a deadlock is told, and what would end it also", "[sim]") {
  platform::SimWorld world;
  platform::SimNetpoller first(world);
  platform::SimNetpoller second(world);
  const auto [reader, writer] = world.files().make_pipe();
  char byte = 0;
  Request reading(read_op(reader, &byte, 1));
  first.submit(reading);
  REQUIRE(world.advance());  // not handed over yet: a turn is due
  REQUIRE(first.poll(kForever) == 0);
  REQUIRE(second.poll(kForever) == 0);
  REQUIRE_FALSE(world.advance());
  second.wake();
  REQUIRE(world.advance());
  REQUIRE(second.poll(kForever) == 0);
  REQUIRE_FALSE(world.advance());
  Request writing(write_op(writer, "w", 1));
  second.submit(writing);
  second.flush();
  REQUIRE(world.advance());
  REQUIRE(second.poll(kNow) == 1);
  REQUIRE(first.poll(kNow) == 1);
  REQUIRE(byte == 'w');
  REQUIRE(first.in_flight() + second.in_flight() == 0);
}

TEST_CASE("sim: short input and output do happen, and never move nothing", "[sim]") {
  SimPlatform platform(faulty(test_seed()));
  const auto [left, right] = platform.make_stream_pair();
  char buffer[64] = {};
  size_t shorts = 0;
  int64_t sent = 0;
  int64_t received = 0;
  for (int i = 0; i < 200; i++) {
    const int64_t out = run(platform, send_op(right, buffer, sizeof buffer, MSG_NOSIGNAL));
    REQUIRE(out >= 1);
    REQUIRE(out <= 64);
    sent += out;
    while (received < sent) {
      const int64_t in = run(platform, receive_op(left, buffer, sizeof buffer));
      REQUIRE(in >= 1);
      REQUIRE(in <= sent - received);
      received += in;
    }
    if (out < 64) shorts++;
  }
  REQUIRE(shorts > 50);
  REQUIRE(shorts < 150);
}

TEST_CASE("sim: closing frees the descriptor, not what operations under way use", "[sim]") {
  SimPlatform platform(platform::SimOptions{});
  const auto [reader, writer] = platform.make_pipe();
  char byte = 0;
  Request reading(read_op(reader, &byte, 1));
  platform.netpoller().submit(reading);
  platform.netpoller().poll(kNow);
  platform.close(reader);
  REQUIRE(platform.world().files().open_count() == 1);
  REQUIRE(run(platform, write_op(writer, "k", 1)) == 1);
  REQUIRE(drive(platform, [&] { return reading.deliveries == 1; }));
  REQUIRE(byte == 'k');
  // The last user of the reading end is gone now: pipe(7), EPIPE.
  REQUIRE(run(platform, write_op(writer, "k", 1)) == -EPIPE);
  REQUIRE(platform.world().files().close(reader) == -EBADF);
}

}  // namespace weft::platform_test
