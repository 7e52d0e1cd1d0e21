// io_wait_test.cc - parking on completions and on time: every completion delivered exactly once,
// whatever the deadline, the other operations or the system's faults do.
// Method: bytes are numbered; each is received once, by the result of the very read that has it.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <vector>

#include "scheduler/io_wait.h"
#include "tests/scheduler/io_ops.h"
#include "tests/scheduler/sim_scheduler.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {
namespace {

constexpr int64_t kTickNs = int64_t{1} << TimerWheel::kTickShift;
constexpr int64_t kNever = -1'000'000;  // a result that no operation has

SimSettings faulty(uint64_t seed, uint32_t workers) {
  SimSettings settings;
  settings.seed = seed;
  settings.workers = workers;
  settings.faults.short_probability = 0.3;
  settings.faults.delay_probability = 0.3;
  settings.faults.cancel_delay_probability = 0.5;
  settings.faults.delay_max_ns = 4 * kTickNs;
  settings.faults.shuffle = true;
  settings.faults.buffer_bytes = 16;
  return settings;
}

// The i-th byte of a stream.
char byte_of(int64_t i) {
  return static_cast<char>('a' + i % 23);
}

// Writes bytes 0 to total - 1, however short the writes; then closes.
void write_stream(SimScheduler& sim, int fd, int64_t total) {
  for (int64_t sent = 0; sent < total;) {
    char buffer[8];
    const int64_t count = std::min<int64_t>(total - sent, sizeof buffer);
    for (int64_t i = 0; i < count; i++) buffer[i] = byte_of(sent + i);
    const int64_t written = park_for(write_op(fd, buffer, static_cast<uint32_t>(count)));
    SIM_EXPECT(sim, written > 0 && written <= count);
    if (written <= 0) break;
    sent += written;
    if (sim.random().chance(0.4)) {
      sleep_until(sim.now_ns() + static_cast<int64_t>(sim.random().below(3)) * kTickNs);
    }
  }
  sim.files().close(fd);
}

// Checks what one read of a stream brought. True: it brought bytes.
bool take_bytes(SimScheduler& sim, const char* buffer, int64_t count, int64_t& received) {
  for (int64_t i = 0; i < count; i++) SIM_EXPECT(sim, buffer[i] == byte_of(received + i));
  if (count > 0) received += count;
  return count > 0;
}

}  // namespace

TEST_CASE("park_on: short, late and shuffled completions, every byte once", "[sim][park]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(faulty(seed, workers));
    std::vector<int64_t> received(4);
    for (size_t i = 0; i < received.size(); i++) {
      const auto [reader, writer] = sim.files().make_pipe();
      sim.spawn([&, writer = writer] { write_stream(sim, writer, 100); });
      sim.spawn([&, i, reader = reader] {
        char buffer[12];
        for (;;) {
          IoCompletion read = read_op(reader, buffer, sizeof buffer);
          read.result = kNever;
          SIM_EXPECT(sim, park_on(&read, 1, platform::kForever, true, WaitReason::io) ==
                              IoOutcome::completed);
          SIM_EXPECT(sim, read.result >= 0);
          SIM_EXPECT(sim, read.delivered);
          if (!take_bytes(sim, buffer, read.result, received[i])) break;
        }
      });
    }
    sim.run();
    for (const int64_t count : received) REQUIRE(count == 100);
  });
}

TEST_CASE("park_on: a deadline before the completion times out and cancels", "[sim][park]") {
  const uint32_t workers = GENERATE(1U, 4U);
  SimScheduler sim(first_seed(), workers);
  const int reader = sim.files().make_pipe().first;
  sim.spawn([&] {
    char byte;
    IoCompletion read = read_op(reader, &byte, 1);
    const int64_t deadline = sim.now_ns() + 5'000'000;
    SIM_EXPECT(sim, park_on(&read, 1, deadline, false, WaitReason::io) == IoOutcome::timed_out);
    SIM_EXPECT(sim, read.result == -ECANCELED);
    SIM_EXPECT(sim, sim.now_ns() >= deadline);
    SIM_EXPECT(sim, sim.now_ns() <= deadline + kTickNs);
  });
  sim.run();
}

TEST_CASE("park_on: deadlines race with completions, no byte is lost or doubled", "[sim][park]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  int timed_out_with_bytes = 0;
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(faulty(seed, workers));
    const auto [reader, writer] = sim.files().make_pipe();
    int64_t received = 0;
    sim.spawn([&, writer = writer] { write_stream(sim, writer, 60); });
    sim.spawn([&, reader = reader] {
      for (bool open = true; open;) {
        char buffer[12];
        IoCompletion read = read_op(reader, buffer, sizeof buffer);
        read.result = kNever;
        const int64_t deadline =
            sim.now_ns() + static_cast<int64_t>(sim.random().below(4)) * kTickNs;
        const IoOutcome outcome = park_on(&read, 1, deadline, true, WaitReason::io);
        SIM_EXPECT(sim, read.result >= 0 || read.result == -ECANCELED);
        SIM_EXPECT(sim, read.result >= 0 || outcome == IoOutcome::timed_out);
        SIM_EXPECT(sim, outcome != IoOutcome::timed_out || sim.now_ns() >= deadline);
        if (outcome == IoOutcome::timed_out && read.result > 0) timed_out_with_bytes++;
        take_bytes(sim, buffer, read.result, received);
        open = read.result != 0;
      }
    });
    sim.run();
    REQUIRE(received == 60);
  });
  // The race that the test is about did happen.
  if (seed_count() >= 100) REQUIRE(timed_out_with_bytes > 0);
}

TEST_CASE("park_on: the first of several ends the wait, the others are cancelled", "[sim][park]") {
  const uint32_t chosen = GENERATE(0U, 1U, 2U);
  SimScheduler sim(first_seed(), 2);
  int fds[3][2];
  for (auto& pair : fds) std::tie(pair[0], pair[1]) = sim.files().make_pipe();
  sim.spawn([&] {
    char bytes[3] = {};
    IoCompletion reads[3];
    for (int i = 0; i < 3; i++) reads[i] = read_op(fds[i][0], &bytes[i], 1);
    const int64_t deadline = sim.now_ns() + 1'000'000'000;
    SIM_EXPECT(sim, park_on(reads, 3, deadline, true, WaitReason::poll) == IoOutcome::completed);
    for (uint32_t i = 0; i < 3; i++) {
      SIM_EXPECT(sim, reads[i].result == (i == chosen ? 1 : -ECANCELED));
      SIM_EXPECT(sim, bytes[i] == (i == chosen ? 'k' : 0));
    }
    SIM_EXPECT(sim, sim.now_ns() < deadline);
  });
  sim.spawn([&] {
    sleep_until(sim.now_ns() + 1'000'000);
    SIM_EXPECT(sim, park_for(write_op(fds[chosen][1], "k", 1)) == 1);
  });
  sim.run();
}

TEST_CASE("park_on: several streams at once with deadlines, every byte once", "[sim][park]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(faulty(seed, workers));
    constexpr int kStreams = 4;
    int readers[kStreams];
    int64_t received[kStreams] = {};
    for (int& fd : readers) {
      const auto [reader, writer] = sim.files().make_pipe();
      fd = reader;
      sim.spawn([&, writer = writer] { write_stream(sim, writer, 40); });
    }
    sim.spawn([&] {
      bool open[kStreams] = {true, true, true, true};
      for (;;) {
        char buffers[kStreams][12];
        IoCompletion reads[kStreams];
        int streams[kStreams];
        uint32_t count = 0;
        for (int i = 0; i < kStreams; i++) {
          if (!open[i]) continue;
          streams[count] = i;
          reads[count] = read_op(readers[i], buffers[i], sizeof buffers[i]);
          reads[count].result = kNever;
          count++;
        }
        if (count == 0) break;
        const bool bounded = sim.random().chance(0.5);
        const int64_t deadline =
            bounded ? sim.now_ns() + static_cast<int64_t>(sim.random().below(4)) * kTickNs
                    : platform::kForever;
        const IoOutcome outcome = park_on(reads, count, deadline, true, WaitReason::poll);
        bool any = false;
        for (uint32_t i = 0; i < count; i++) {
          const int64_t result = reads[i].result;
          SIM_EXPECT(sim, reads[i].delivered);
          SIM_EXPECT(sim, result >= 0 || result == -ECANCELED);
          any = any || result >= 0;
          take_bytes(sim, buffers[streams[i]], result, received[streams[i]]);
          if (result == 0) open[streams[i]] = false;
        }
        SIM_EXPECT(sim, any || outcome == IoOutcome::timed_out);
      }
    });
    sim.run();
    for (const int64_t count : received) REQUIRE(count == 40);
  });
}

TEST_CASE("park_on: an operation that the engine cannot do completes with ENOSYS", "[sim][park]") {
  SimScheduler sim(first_seed(), 1);
  sim.spawn([&] {
    IoCompletion wait;
    wait.op.kind = platform::OpKind::wait_id;
    SIM_EXPECT(sim, park_for(wait) == -ENOSYS);
  });
  sim.run();
}

TEST_CASE("sleep_until: fibers wake in the order of their deadlines, a tick late at most",
          "[sim][sleep]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    std::vector<int64_t> woken;
    const int64_t start = sim.now_ns();
    for (int i = 0; i < 30; i++) {
      // From the same tick to a minute.
      const auto scale = static_cast<int64_t>(sim.random().below(20));
      const int64_t deadline =
          start + static_cast<int64_t>(sim.random().below(uint64_t{1} << (16 + scale)));
      sim.spawn([&, deadline] {
        SIM_EXPECT(sim, sleep_until(deadline) == IoOutcome::timed_out);
        SIM_EXPECT(sim, sim.now_ns() >= deadline);
        SIM_EXPECT(sim, sim.now_ns() <= deadline + kTickNs);
        // Within one tick any order is right.
        woken.push_back(deadline >> TimerWheel::kTickShift);
      });
    }
    sim.run();
    REQUIRE(std::is_sorted(woken.begin(), woken.end()));
    REQUIRE(woken.size() == 30);
  });
}

TEST_CASE("sleep_until: a deadline that has passed returns, others had a turn", "[sim][sleep]") {
  SimScheduler sim(first_seed(), 1);
  bool other = false;
  sim.spawn([&] {
    sim.spawn([&] { other = true; });
    SIM_EXPECT(sim, sleep_until(sim.now_ns() - 1) == IoOutcome::timed_out);
    SIM_EXPECT(sim, other);
  });
  sim.run();
}

}  // namespace weft::scheduler_test
