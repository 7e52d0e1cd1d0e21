// futex_any_test.cc - waiting for several words (futex_waitv): which one woke, and no wake missed
// while the waiter is on its way to park.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <array>
#include <vector>

#include "platform/thread_pointer.h"
#include "scheduler/io_wait.h"
#include "tests/scheduler/futex_sync.h"
#include "tests/scheduler/sim_scheduler.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {
namespace {

constexpr int64_t kTickNs = int64_t{1} << TimerWheel::kTickShift;

std::vector<FutexWaitItem> items_of(const std::vector<Word>& words) {
  std::vector<FutexWaitItem> items;
  for (const Word& word : words) items.push_back({key_of(word), address_of(word), 0});
  return items;
}

FutexOutcome wait_any(const std::vector<FutexWaitItem>& items, int64_t deadline_ns,
                      uint32_t& index) {
  return futex_wait_any(items.data(), static_cast<uint32_t>(items.size()), deadline_ns, index);
}

}  // namespace

TEST_CASE("futex_wait_any: tells which word was woken", "[sim][futex]") {
  const uint32_t count = GENERATE(1U, 2U, 7U, 128U);
  const uint32_t workers = GENERATE(1U, 4U);
  SimScheduler sim(first_seed(), workers);
  const std::vector<Word> words(count);
  const auto items = items_of(words);
  sim.spawn([&] {
    for (uint32_t chosen = 0; chosen < count; chosen++) {
      bool done = false;
      sim.spawn([&] {
        uint32_t index = count;
        SIM_EXPECT(sim, wait_any(items, platform::kForever, index) == FutexOutcome::woken);
        SIM_EXPECT(sim, index == chosen);
        done = true;
      });
      while (wake(words[chosen]) == 0) yield();
      while (!done) yield();
      // It left no word's list behind.
      for (const Word& word : words) SIM_EXPECT(sim, wake(word) == 0);
    }
  });
  sim.run();
}

TEST_CASE("futex_wait_any: another value in any word does not sleep", "[sim][futex]") {
  SimScheduler sim(first_seed(), 1);
  std::vector<Word> words(5);
  const auto items = items_of(words);
  sim.spawn([&] {
    for (size_t i = 0; i < words.size(); i++) {
      words[i].store(1);
      uint32_t index = 0;
      SIM_EXPECT(sim, wait_any(items, platform::kForever, index) == FutexOutcome::value_differs);
      for (const Word& word : words) SIM_EXPECT(sim, wake(word) == 0);
      words[i].store(0);
    }
    uint32_t index = 0;
    const int64_t deadline = sim.now_ns() + 1000;
    SIM_EXPECT(sim, wait_any(items, deadline, index) == FutexOutcome::timed_out);
    SIM_EXPECT(sim, sim.now_ns() >= deadline);
    for (const Word& word : words) SIM_EXPECT(sim, wake(word) == 0);
  });
  sim.run();
}

TEST_CASE("futex_wait_any: a wake between queueing and parking is not missed", "[sim][futex]") {
  const uint32_t chosen = GENERATE(0U, 1U, 2U);
  SimScheduler sim(first_seed(), 1);
  const std::vector<Word> words(3);
  const auto items = items_of(words);
  bool woken = false;
  uint32_t calls = 0;
  sim.spawn([&] {
    // The clock is read for the deadline when the words are queued and the fiber still runs.
    sim.worker(0).netpoller.on_now = [&] {
      Worker& before = *current_worker();
      platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&foreign_worker()));
      wake(words[chosen]);
      calls++;
      platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&before));
    };
    uint32_t index = 3;
    const int64_t deadline = sim.now_ns() + 1'000'000'000;
    SIM_EXPECT(sim, wait_any(items, deadline, index) == FutexOutcome::woken);
    SIM_EXPECT(sim, index == chosen);
    SIM_EXPECT(sim, sim.now_ns() < deadline);
    woken = true;
  });
  sim.run();
  REQUIRE(calls == 1);
  REQUIRE(woken);
}

TEST_CASE("futex_wait_any: the word whose waker was told comes before one that came too late",
          "[sim][futex]") {
  SimScheduler sim(first_seed(), 1);
  const std::vector<Word> words(3);
  const auto items = items_of(words);
  bool done = false;
  uint32_t index = 3;
  sim.spawn([&] {
    sim.spawn([&] {
      SIM_EXPECT(sim, wait_any(items, platform::kForever, index) == FutexOutcome::woken);
      done = true;
    });
    while (wake(words[1]) == 0) yield();
    // The waiter is ready and has not run: these find it taken.
    SIM_EXPECT(sim, !done);
    SIM_EXPECT(sim, wake(words[2]) == 0);
    SIM_EXPECT(sim, wake(words[0]) == 0);
  });
  sim.run();
  REQUIRE(done);
  REQUIRE(index == 1);
}

TEST_CASE("futex_wait_any: wakes on all words and deadlines, one outcome each", "[sim][futex]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimSettings settings;
    settings.seed = seed;
    settings.workers = workers;
    settings.hasty_time = 0.05;
    SimScheduler sim(settings);
    const std::vector<Word> words(4);
    const auto items = items_of(words);
    std::array<uint32_t, 4> woken{};
    std::array<uint32_t, 4> told{};
    int waiting = 5;
    for (int i = 0; i < 5; i++) {
      sim.spawn([&, i] {
        for (int round = 0; round < 8; round++) {
          const auto delay = static_cast<int64_t>(sim.random().below(4)) * kTickNs;
          const int64_t deadline = sim.now_ns() + delay;
          if (i == 0) {  // a waiter for one word, in the same queue
            if (wait_on(words[1], 0, deadline) == FutexOutcome::woken) woken[1]++;
            continue;
          }
          uint32_t index = 4;
          const FutexOutcome outcome = wait_any(items, deadline, index);
          if (outcome == FutexOutcome::woken) {
            SIM_EXPECT(sim, index < 4);
            woken[index & 3]++;
          } else {
            SIM_EXPECT(sim, outcome == FutexOutcome::timed_out);
          }
        }
        waiting--;
      });
    }
    sim.spawn([&] {
      while (waiting != 0) {
        const size_t chosen = sim.random().below(words.size());
        told[chosen] += wake(words[chosen], 1 + static_cast<uint32_t>(sim.random().below(2)));
        sleep_until(sim.now_ns() + static_cast<int64_t>(sim.random().below(2)) * kTickNs);
      }
    });
    sim.run();
    REQUIRE(woken == told);
  });
}

}  // namespace weft::scheduler_test
