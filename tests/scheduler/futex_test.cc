// futex_test.cc - futex(2) for fibers, by its rules: order, bits, counts, and locks built on it.
// Method: simulated workers; sums that come out exactly only if no wake-up is lost or doubled.
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

// Lets others run until `count` fibers have passed.
void until(const size_t& passed, size_t count) {
  while (passed < count) yield();
}
void until_woken(const std::vector<size_t>& woken, size_t count) {
  while (woken.size() < count) yield();
}

}  // namespace

TEST_CASE("futex: a wait on another value does not sleep", "[sim][futex]") {
  SimScheduler sim(first_seed(), 1);
  Word word{5};
  sim.spawn([&] {
    SIM_EXPECT(sim, wait_on(word, 4) == FutexOutcome::value_differs);
    SIM_EXPECT(sim, wake(word) == 0);
  });
  sim.run();
}

TEST_CASE("futex: waiters are woken first in, first out, as many as asked for", "[sim][futex]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    Word word{0};
    size_t queued = 0;
    std::vector<size_t> woken;
    std::vector<uint32_t> counts;
    sim.spawn([&] {
      for (size_t i = 0; i < 10; i++) {
        sim.spawn([&, i] {
          queued++;  // and no other fiber of ours queues before it has parked: i + 1 comes later
          SIM_EXPECT(sim, wait_on(word, 0) == FutexOutcome::woken);
          woken.push_back(i);
        });
        until(queued, i + 1);
      }
      size_t expected = 0;
      for (const uint32_t count : {1U, 1U, 3U, 0U, 2U, 100U, 1U}) {
        counts.push_back(wake(word, count));
        expected += counts.back();
        until_woken(woken, expected);
        // In a group the workers choose who runs first; between groups the queue does.
        std::sort(woken.end() - counts.back(), woken.end());
      }
    });
    sim.run();
    REQUIRE(counts == std::vector<uint32_t>{1, 1, 3, 0, 2, 3, 0});
    for (size_t i = 0; i < woken.size(); i++) REQUIRE(woken[i] == i);
    REQUIRE(woken.size() == 10);
  });
}

TEST_CASE("futex: bits choose whom to wake, and the private key is not the shared one",
          "[sim][futex]") {
  SimScheduler sim(first_seed(), 1);
  Word word{0};
  size_t queued = 0;
  uint32_t woken_bits = 0;
  const FutexKey shared = FutexKey::of(&word, true);
  sim.spawn([&] {
    for (const uint32_t bits : {1U, 2U, 4U}) {
      sim.spawn([&, bits] {
        queued++;
        wait_on(word, 0, platform::kForever, bits);
        woken_bits |= bits;
      });
    }
    sim.spawn([&] {
      queued++;
      futex_wait(shared, address_of(word), 0, kFutexAnyBit, platform::kForever);
      woken_bits |= 8;
    });
    until(queued, 4);
    yield();
    SIM_EXPECT(sim, wake(word, kAll, 8) == 0);
    SIM_EXPECT(sim, wake(word, kAll, 2 | 8) == 1);
    while (woken_bits == 0) yield();
    SIM_EXPECT(sim, woken_bits == 2);
    SIM_EXPECT(sim, wake(word, kAll) == 2);
    while (woken_bits != 7) yield();
    SIM_EXPECT(sim, futex_wake(shared, kAll, kFutexAnyBit) == 1);
  });
  sim.run();
  REQUIRE(woken_bits == 15);
}

TEST_CASE("futex: a mutex built on it excludes, and nobody waits for ever", "[sim][futex]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    FutexMutex mutex;
    int inside = 0;
    int count = 0;
    for (int i = 0; i < 12; i++) {
      sim.spawn([&] {
        for (int round = 0; round < 10; round++) {
          mutex.lock();
          SIM_EXPECT(sim, ++inside == 1);
          const int seen = count;
          if (sim.random().chance(0.5)) yield();
          count = seen + 1;
          inside--;
          mutex.unlock();
          if (sim.random().chance(0.3)) yield();
        }
      });
    }
    sim.run();
    REQUIRE(count == 120);
  });
}

TEST_CASE("futex: a bounded queue on condition variables passes every item once", "[sim][futex]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    FutexMutex mutex;
    FutexCondition filled;
    FutexCondition drained;
    std::vector<int> queue;
    std::vector<int> taken(4 * 25);
    int left = 4 * 25;
    for (int producer = 0; producer < 4; producer++) {
      sim.spawn([&, producer] {
        for (int i = 0; i < 25; i++) {
          mutex.lock();
          while (queue.size() == 3) drained.wait(mutex);
          queue.push_back(producer * 25 + i);
          filled.notify_one();
          mutex.unlock();
        }
      });
    }
    for (int consumer = 0; consumer < 3; consumer++) {
      sim.spawn([&] {
        for (;;) {
          mutex.lock();
          while (queue.empty() && left != 0) filled.wait(mutex);
          if (left == 0) {
            mutex.unlock();
            return;
          }
          taken[static_cast<size_t>(queue.back())]++;
          queue.pop_back();
          if (--left == 0) filled.notify_all(mutex);
          drained.notify_one();
          mutex.unlock();
        }
      });
    }
    sim.run();
    REQUIRE(std::count(taken.begin(), taken.end(), 1) == 100);
  });
}

TEST_CASE("futex: notify_all by requeue lets each waiter through the mutex", "[sim][futex]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    FutexMutex mutex;
    FutexCondition condition;
    int generation = 0;
    int arrived = 0;
    int inside = 0;
    constexpr int kParties = 9;
    for (int i = 0; i < kParties; i++) {
      sim.spawn([&] {
        for (int round = 0; round < 8; round++) {
          mutex.lock();
          const int mine = generation;
          if (++arrived == kParties) {
            arrived = 0;
            generation++;
            condition.notify_all(mutex);
          }
          while (generation == mine) {
            condition.wait(mutex);
            SIM_EXPECT(sim, ++inside == 1);
            if (sim.random().chance(0.3)) yield();
            inside--;
          }
          mutex.unlock();
        }
      });
    }
    sim.run();
    REQUIRE(generation == 8);
  });
}

TEST_CASE("futex: requeue wakes some, moves some, and counts both", "[sim][futex]") {
  SimScheduler sim(first_seed(), 1);
  Word source{7};
  // Many targets: some of them share the source's bucket.
  std::vector<Word> targets(20'000);
  size_t queued = 0;
  std::vector<size_t> woken;
  sim.spawn([&] {
    for (size_t i = 0; i < 6; i++) {
      sim.spawn([&, i] {
        queued++;
        SIM_EXPECT(sim, wait_on(source, 7) == FutexOutcome::woken);
        woken.push_back(i);
      });
      until(queued, i + 1);
    }
    yield();
    const uint32_t other = 8;
    const FutexKey key = key_of(source);
    SIM_EXPECT(
        sim,
        futex_requeue(key, key_of(targets[0]), 1, kAll, address_of(source), &other).affected == -1);
    const uint32_t expected = 7;
    const FutexRequeue first =
        futex_requeue(key, key_of(targets[0]), 1, 4, address_of(source), &expected);
    SIM_EXPECT(sim, first.woken == 1);
    SIM_EXPECT(sim, first.affected == 5);
    // Four go from word to word through every kind of neighbourhood, in order; one stays behind.
    for (size_t i = 1; i < targets.size(); i++) {
      const FutexRequeue moved = futex_requeue(key_of(targets[i - 1]), key_of(targets[i]), 0, kAll,
                                               address_of(targets[i]), nullptr);
      SIM_EXPECT(sim, moved.affected == 4);
      SIM_EXPECT(sim, moved.woken == 0);
    }
    until_woken(woken, 1);
    SIM_EXPECT(sim, wake(source, kAll) == 1);
    until_woken(woken, 2);
    for (size_t i = 0; i < 4; i++) {
      SIM_EXPECT(sim, wake(targets.back()) == 1);
      until_woken(woken, 3 + i);
    }
    SIM_EXPECT(sim, wake(targets.back()) == 0);
  });
  sim.run();
  REQUIRE(woken == std::vector<size_t>{0, 5, 1, 2, 3, 4});
}

TEST_CASE("futex: requeue to the word itself counts every waiter, as the kernel does",
          "[sim][futex]") {
  SimScheduler sim(first_seed(), 1);
  Word word{0};
  size_t queued = 0;
  std::vector<size_t> woken;
  sim.spawn([&] {
    for (size_t i = 0; i < 5; i++) {
      sim.spawn([&, i] {
        queued++;
        wait_on(word, 0);
        woken.push_back(i);
      });
      until(queued, i + 1);
    }
    yield();
    const FutexKey key = key_of(word);
    SIM_EXPECT(sim, futex_requeue(key, key, 1, 2, address_of(word), nullptr).affected == 3);
    SIM_EXPECT(sim, futex_requeue(key, key, 0, kAll, address_of(word), nullptr).affected == 4);
    until_woken(woken, 1);
    for (size_t i = 2; i <= 5; i++) {
      SIM_EXPECT(sim, wake(word) == 1);
      until_woken(woken, i);
    }
  });
  sim.run();
  REQUIRE(woken == std::vector<size_t>{0, 1, 2, 3, 4});
}

TEST_CASE("futex: requeue passes over a waiter whose time is up", "[sim][futex]") {
  // One tick ends all three; who of them runs first follows from the order of their timers. The
  // waiter may be ready and still on the word's list when the requeuer comes.
  const bool requeuer_first = GENERATE(true, false);
  SimScheduler sim(first_seed(), 1);
  Word source{0};
  Word target{0};
  bool woken = false;
  const int64_t deadline = sim.now_ns() + 1'000'000;
  const auto requeue = [&] {
    sleep_until(deadline);
    const FutexRequeue result =
        futex_requeue(key_of(source), key_of(target), 0, 1, address_of(source), nullptr);
    SIM_EXPECT(sim, result.affected == 1);
    SIM_EXPECT(sim, wake(target) == 1);
  };
  if (requeuer_first) sim.spawn(requeue);
  sim.spawn([&] { SIM_EXPECT(sim, wait_on(source, 0, deadline) == FutexOutcome::timed_out); });
  sim.spawn([&] {
    SIM_EXPECT(sim, wait_on(source, 0) == FutexOutcome::woken);
    woken = true;
  });
  if (!requeuer_first) sim.spawn(requeue);
  sim.run();
  REQUIRE(woken);
}

TEST_CASE("futex: wake_op changes the second word and wakes by what it held", "[sim][futex]") {
  const bool wakes_second = GENERATE(true, false);
  SimScheduler sim(first_seed(), 2);
  Word first{0};
  Word second{0};
  size_t queued = 0;
  size_t woken_first = 0;
  size_t woken_second = 0;
  struct Change {
    Word& word;
    bool answer;
  } change{second, wakes_second};
  sim.spawn([&] {
    for (int i = 0; i < 3; i++) {
      sim.spawn([&] {
        queued++;
        wait_on(first, 0);
        woken_first++;
      });
      sim.spawn([&] {
        queued++;
        wait_on(second, 0);
        woken_second++;
      });
    }
    until(queued, 6);
    for (int i = 0; i < 50; i++) yield();
    const uint32_t woken = futex_wake_op(
        key_of(first), 2, key_of(second), 1,
        [](void* argument) {
          auto& self = *static_cast<Change*>(argument);
          self.word.store(9);
          return self.answer;
        },
        &change);
    SIM_EXPECT(sim, woken == (wakes_second ? 3U : 2U));
    until(woken_first, 2);
    SIM_EXPECT(sim, wake(first, kAll) == 1);
    SIM_EXPECT(sim, wake(second, kAll) == (wakes_second ? 2U : 3U));
  });
  sim.run();
  REQUIRE(second.load() == 9);
  REQUIRE(woken_first == 3);
  REQUIRE(woken_second == 3);
}

}  // namespace weft::scheduler_test
