// interrupt_test.cc - signals that cut waits short: never lost, never doubled, whatever else ends
// the wait at the same moment.
// Method: a fiber waits in every way there is and notes each interrupt; interrupters send the next
// one only when the last was noted. One lost interrupt is a deadlock, one doubled a wrong sum.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <cerrno>

#include "scheduler/io_wait.h"
#include "tests/scheduler/futex_sync.h"
#include "tests/scheduler/io_ops.h"
#include "tests/scheduler/sim_scheduler.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {
namespace {

constexpr int64_t kTickNs = int64_t{1} << TimerWheel::kTickShift;

SimSettings faulty(uint64_t seed, uint32_t workers) {
  SimSettings settings;
  settings.seed = seed;
  settings.workers = workers;
  settings.hasty_time = 0.05;
  settings.faults.delay_probability = 0.3;
  settings.faults.cancel_delay_probability = 0.5;
  settings.faults.delay_max_ns = 3 * kTickNs;
  settings.faults.shuffle = true;
  return settings;
}

}  // namespace

TEST_CASE("interrupt: ends a wait that nothing else would", "[sim][interrupt]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U);
  SimScheduler sim(first_seed(), workers);
  const auto [reader, writer] = sim.files().make_pipe();
  Word word{0};
  int passed = 0;
  Fiber& target = sim.spawn([&, reader = reader] {
    SIM_EXPECT(sim, wait_on(word, 0) == FutexOutcome::interrupted);
    SIM_EXPECT(sim, take_interrupt());
    passed++;
    SIM_EXPECT(sim, wake(word) == 0);
    SIM_EXPECT(sim, sleep_until(platform::kForever) == IoOutcome::interrupted);
    SIM_EXPECT(sim, take_interrupt());
    passed++;
    char byte;
    IoCompletion read = read_op(reader, &byte, 1);
    SIM_EXPECT(
        sim, park_on(&read, 1, platform::kForever, true, WaitReason::io) == IoOutcome::interrupted);
    SIM_EXPECT(sim, read.result == -ECANCELED);
    SIM_EXPECT(sim, take_interrupt());
    passed++;
  });
  sim.spawn([&] {
    for (int i = 0; i < 3; i++) {
      while (passed < i || target.state != FiberState::parked) yield();
      interrupt(target);
      while (passed == i) yield();
    }
  });
  sim.run();
  REQUIRE(passed == 3);
}

TEST_CASE("interrupt: one that came before the wait counts", "[sim][interrupt]") {
  SimScheduler sim(first_seed(), 1);
  const auto [reader, writer] = sim.files().make_pipe();
  Word word{0};
  sim.spawn([&, reader = reader] {
    Fiber& self = *current_fiber();
    interrupt(self);
    SIM_EXPECT(sim, wait_on(word, 0) == FutexOutcome::interrupted);
    SIM_EXPECT(sim, sleep_until(platform::kForever) == IoOutcome::interrupted);
    char byte;
    IoCompletion read = read_op(reader, &byte, 1);
    SIM_EXPECT(
        sim, park_on(&read, 1, platform::kForever, true, WaitReason::io) == IoOutcome::interrupted);
    SIM_EXPECT(sim, read.result == -ECANCELED);
    SIM_EXPECT(sim, take_interrupt());
    SIM_EXPECT(sim, !take_interrupt());
  });
  sim.run();
}

TEST_CASE("interrupt: a wait that is not interruptible goes on", "[sim][interrupt]") {
  SimScheduler sim(first_seed(), 2);
  const auto [reader, writer] = sim.files().make_pipe();
  bool done = false;
  Fiber& target = sim.spawn([&, reader = reader] {
    char byte = 0;
    IoCompletion read = read_op(reader, &byte, 1);
    SIM_EXPECT(
        sim, park_on(&read, 1, platform::kForever, false, WaitReason::io) == IoOutcome::completed);
    SIM_EXPECT(sim, read.result == 1);
    SIM_EXPECT(sim, byte == 'x');
    SIM_EXPECT(sim, take_interrupt());
    done = true;
  });
  sim.spawn([&, writer = writer] {
    for (int i = 0; i < 50; i++) {
      interrupt(target);
      yield();
    }
    SIM_EXPECT(sim, !done);
    SIM_EXPECT(sim, park_for(write_op(writer, "x", 1)) == 1);
  });
  sim.run();
  REQUIRE(done);
}

TEST_CASE("interrupt: with wakes, deadlines and completions, none is lost or doubled",
          "[sim][interrupt]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(faulty(seed, workers));
    const auto [reader, writer] = sim.files().make_pipe();
    Word word{0};
    uint32_t woken = 0;
    uint32_t told = 0;
    int sent = 0;
    int noted = 0;
    int64_t read_bytes = 0;
    int64_t written_bytes = 0;
    bool over = false;
    constexpr int kInterrupts = 40;
    Fiber& target = sim.spawn([&, reader = reader] {
      while (noted < kInterrupts) {
        const auto delay = static_cast<int64_t>(sim.random().below(4)) * kTickNs;
        const bool forever = sim.random().chance(0.2);
        const int64_t deadline = forever ? platform::kForever : sim.now_ns() + delay;
        bool interrupted = false;
        bool timed_out = false;
        switch (sim.random().below(3)) {
          case 0: {
            const FutexOutcome outcome = wait_on(word, 0, deadline);
            if (outcome == FutexOutcome::woken) woken++;
            interrupted = outcome == FutexOutcome::interrupted;
            timed_out = outcome == FutexOutcome::timed_out;
            break;
          }
          case 1: {
            const IoOutcome outcome = sleep_until(deadline);
            interrupted = outcome == IoOutcome::interrupted;
            timed_out = outcome == IoOutcome::timed_out;
            break;
          }
          default: {
            char buffer[4];
            IoCompletion read = read_op(reader, buffer, sizeof buffer);
            const IoOutcome outcome = park_on(&read, 1, deadline, true, WaitReason::io);
            SIM_EXPECT(sim, read.result > 0 || read.result == -ECANCELED);
            SIM_EXPECT(sim, read.result > 0 || outcome != IoOutcome::completed);
            if (read.result > 0) read_bytes += read.result;
            interrupted = outcome == IoOutcome::interrupted;
            timed_out = outcome == IoOutcome::timed_out;
            break;
          }
        }
        SIM_EXPECT(sim, !timed_out || (!forever && sim.now_ns() >= deadline));
        const bool taken = take_interrupt();
        SIM_EXPECT(sim, taken || !interrupted);
        if (taken) noted++;
      }
      over = true;
    });
    for (int i = 0; i < 2; i++) {
      sim.spawn([&] {
        while (sent < kInterrupts) {
          if (noted == sent) {
            sent++;
            interrupt(target);
          }
          sleep_until(sim.now_ns() + static_cast<int64_t>(sim.random().below(3)) * kTickNs);
        }
      });
    }
    sim.spawn([&] {
      while (!over) {
        told += wake(word);
        sleep_until(sim.now_ns() + static_cast<int64_t>(sim.random().below(4)) * kTickNs);
      }
    });
    sim.spawn([&, writer = writer] {
      while (!over) {
        written_bytes += park_for(write_op(writer, "w", 1));
        sleep_until(sim.now_ns() + static_cast<int64_t>(sim.random().below(4)) * kTickNs);
      }
    });
    sim.run();
    REQUIRE(noted == kInterrupts);
    REQUIRE(sent == kInterrupts);
    REQUIRE(woken == told);
    // What was not read is still in the pipe; nothing was read twice.
    REQUIRE(read_bytes <= written_bytes);
    sim.files().close(writer);
    int64_t rest = 0;
    sim.spawn([&, reader = reader] {
      char buffer[16];
      for (int64_t more = 1; more > 0; rest += more) {
        more = park_for(read_op(reader, buffer, sizeof buffer));
      }
    });
    sim.run();
    REQUIRE(read_bytes + rest == written_bytes);
  });
}

TEST_CASE("interrupt: a message that comes late, to a worker the fiber has left, passes on",
          "[sim][interrupt]") {
  // An interrupter saw the fiber wait on worker A, was held up, and posts when the fiber waits on
  // worker B. While that message lies in A's box, the next interrupter finds it posted and relies
  // on it. Built by hand, step by step, since it takes a held-up kernel thread to happen.
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, 2);
    const auto [reader, writer] = sim.files().make_pipe();
    bool done = false;
    Fiber& target = sim.spawn([&, reader = reader] {
      char byte;
      IoCompletion read = read_op(reader, &byte, 1);
      SIM_EXPECT(sim, park_on(&read, 1, platform::kForever, true, WaitReason::io) ==
                          IoOutcome::interrupted);
      done = true;
    });
    sim.spawn([&] {
      while (target.state != FiberState::parked || target.io_wait == nullptr) yield();
      Worker& other = sim.worker(target.home == &sim.worker(0).worker ? 1 : 0).worker;
      // The first interrupter, late and at the wrong address.
      target.interrupt_posted.store(true);
      sim.scheduler().post(other, target.interrupt_message);
      // The second one.
      interrupt(target);
      while (!done) yield();
    });
    sim.run();
    REQUIRE(done);
  });
}

}  // namespace weft::scheduler_test
