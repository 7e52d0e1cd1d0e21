// futex_race_test.cc - what may end a futex wait, all at once: wakes, deadlines and requeues.
// Method: simulated workers, time that also moves while workers are busy, and the book-keeping of
// both sides: as many waits ended as woken as wakers were told that they woke.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <algorithm>
#include <vector>

#include "scheduler/io_wait.h"
#include "tests/scheduler/futex_sync.h"
#include "tests/scheduler/sim_scheduler.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {
namespace {

constexpr int64_t kTickNs = int64_t{1} << TimerWheel::kTickShift;

SimSettings hasty(uint64_t seed, uint32_t workers) {
  SimSettings settings;
  settings.seed = seed;
  settings.workers = workers;
  settings.hasty_time = 0.05;
  return settings;
}

}  // namespace

TEST_CASE("futex: a deadline ends the wait, never early, a tick late at most", "[sim][futex]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    Word word{0};
    for (int i = 0; i < 10; i++) {
      sim.spawn([&] {
        for (int round = 0; round < 5; round++) {
          const auto delay = static_cast<int64_t>(sim.random().below(10'000'000));
          const int64_t deadline = sim.now_ns() + delay;
          SIM_EXPECT(sim, wait_on(word, 0, deadline) == FutexOutcome::timed_out);
          SIM_EXPECT(sim, sim.now_ns() >= deadline);
          SIM_EXPECT(sim, sim.now_ns() <= deadline + kTickNs);
        }
      });
    }
    sim.run();
  });
}

TEST_CASE("futex: a deadline that has passed still ends the wait", "[sim][futex]") {
  const int64_t deadline = GENERATE(-1, 0, 1);
  SimScheduler sim(first_seed(), 2);
  Word word{0};
  sim.spawn([&] {
    SIM_EXPECT(sim, wait_on(word, 0, deadline) == FutexOutcome::timed_out);
    SIM_EXPECT(sim, wait_on(word, 1, deadline) == FutexOutcome::value_differs);
    SIM_EXPECT(sim, wake(word) == 0);
  });
  sim.run();
}

TEST_CASE("futex: wakes and deadlines meet, each wait has one outcome", "[sim][futex]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(hasty(seed, workers));
    Word word{0};
    uint32_t woken = 0;
    uint32_t told = 0;
    int waiting = 8;
    for (int i = 0; i < 8; i++) {
      sim.spawn([&] {
        for (int round = 0; round < 10; round++) {
          const auto delay = static_cast<int64_t>(sim.random().below(4)) * kTickNs;
          const int64_t deadline = sim.now_ns() + delay;
          const FutexOutcome outcome = wait_on(word, 0, deadline);
          if (outcome == FutexOutcome::woken) {
            woken++;
          } else {
            SIM_EXPECT(sim, outcome == FutexOutcome::timed_out);
            SIM_EXPECT(sim, sim.now_ns() >= deadline);
          }
        }
        waiting--;
      });
    }
    for (int i = 0; i < 2; i++) {
      sim.spawn([&] {
        while (waiting != 0) {
          told += wake(word, 1 + static_cast<uint32_t>(sim.random().below(3)));
          // On the same ticks as the deadlines.
          sleep_until(sim.now_ns() + static_cast<int64_t>(sim.random().below(3)) * kTickNs);
        }
      });
    }
    sim.run();
    REQUIRE(woken == told);
    REQUIRE(wake(word, kAll) == 0);
  });
}

TEST_CASE("futex: no wake-up is lost to a waiter whose deadline won", "[sim][futex]") {
  // A semaphore: a post that reached a waiter that timed out would be missing at the end.
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(hasty(seed, workers));
    Word permits{0};
    constexpr int kPermits = 60;
    int taken = 0;
    for (int i = 0; i < 6; i++) {
      sim.spawn([&] {
        for (int round = 0; round < 10;) {
          uint32_t seen = permits.load();
          if (seen != 0) {
            permits.compare_exchange_strong(seen, seen - 1);
            taken++;
            round++;
          } else if (sim.random().chance(0.5)) {
            const auto delay = static_cast<int64_t>(sim.random().below(3)) * kTickNs;
            wait_on(permits, 0, sim.now_ns() + delay);
          } else {
            wait_on(permits, 0);
          }
        }
      });
    }
    sim.spawn([&] {
      for (int i = 0; i < kPermits; i++) {
        sleep_until(sim.now_ns() + static_cast<int64_t>(sim.random().below(3)) * kTickNs);
        permits.fetch_add(1);
        wake(permits);
      }
    });
    sim.run();
    REQUIRE(taken == kPermits);
  });
}

TEST_CASE("futex: requeues, wakes and deadlines together, one outcome each", "[sim][futex]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(hasty(seed, workers));
    std::vector<Word> words(5);
    uint32_t woken = 0;
    uint32_t told = 0;
    int waiting = 8;
    for (int i = 0; i < 8; i++) {
      sim.spawn([&] {
        for (int round = 0; round < 8; round++) {
          const Word& word = words[sim.random().below(words.size())];
          const bool forever = sim.random().chance(0.3);
          const auto delay = static_cast<int64_t>(sim.random().below(4)) * kTickNs;
          const int64_t deadline = forever ? platform::kForever : sim.now_ns() + delay;
          const FutexOutcome outcome = wait_on(word, 0, deadline);
          if (outcome == FutexOutcome::woken) woken++;
          SIM_EXPECT(sim, outcome == FutexOutcome::woken || !forever);
        }
        waiting--;
      });
    }
    sim.spawn([&] {
      while (waiting != 0) {
        const Word& from = words[sim.random().below(words.size())];
        const Word& to = words[sim.random().below(words.size())];
        const auto wakes = static_cast<uint32_t>(sim.random().below(2));
        const FutexRequeue result =
            futex_requeue(key_of(from), key_of(to), wakes, 2, address_of(from), nullptr);
        SIM_EXPECT(sim, result.affected >= result.woken && result.affected <= result.woken + 2);
        told += result.woken;
        told += wake(words[sim.random().below(words.size())]);
        sleep_until(sim.now_ns() + static_cast<int64_t>(sim.random().below(3)) * kTickNs);
      }
    });
    sim.run();
    REQUIRE(woken == told);
    for (const Word& word : words) REQUIRE(wake(word, kAll) == 0);
  });
}

}  // namespace weft::scheduler_test
