// timer_wheel_test.cc - the wheel against a sorted list: never early, a tick late at most.
// Method: random timers of every scale, random cancels and jumps, checked after every step; then
// cancels from other kernel threads while the owner advances.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "platform/sim/sim_random.h"
#include "scheduler/fiber.h"
#include "scheduler/timer_wheel.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {
namespace {

using platform::SimRandom;

constexpr int64_t kTickNs = int64_t{1} << TimerWheel::kTickShift;

int64_t tick_of(int64_t time_ns) {
  return time_ns >> TimerWheel::kTickShift;
}

// Of every scale alike, up to beyond the wheel's reach of 2^52 ns.
int64_t random_span(SimRandom& random) {
  return static_cast<int64_t>(random.below(uint64_t{1} << (1 + random.below(56))));
}

struct ModelTimer : Timer {
  std::vector<ModelTimer*>* fired = nullptr;
  Fiber* fiber = nullptr;  // what fire() returns
  int64_t due_ns = 0;      // the deadline, or the insertion if that came later
  std::multimap<int64_t, ModelTimer*>::iterator place;
};

Fiber* on_fire(Timer& timer) {
  auto& self = static_cast<ModelTimer&>(timer);
  self.fired->push_back(&self);
  return self.fiber;
}

// The wheel, and what it should be.
struct Model {
  TimerWheel wheel;
  std::multimap<int64_t, ModelTimer*> waiting;
  std::vector<ModelTimer*> fired;

  void insert(ModelTimer& timer, int64_t deadline_ns, int64_t now_ns) {
    timer.fire = on_fire;
    timer.fired = &fired;
    timer.deadline_ns = deadline_ns;
    timer.due_ns = std::max(deadline_ns, now_ns);
    timer.place = waiting.emplace(timer.due_ns, &timer);
    wheel.insert(timer, now_ns);
  }
  void cancel(ModelTimer& timer) {
    timer.cancel();
    waiting.erase(timer.place);
  }
  // Returns false if a timer fired early, twice, or is overdue.
  bool advance(int64_t now_ns) {
    fired.clear();
    Fiber* woken = wheel.advance(now_ns);
    std::vector<Fiber*> expected;
    for (ModelTimer* timer : fired) {
      if (timer->deadline_ns > now_ns) return false;
      waiting.erase(timer->place);
      if (timer->fiber != nullptr) expected.push_back(timer->fiber);
    }
    for (; woken != nullptr; woken = woken->next) {
      const auto found = std::find(expected.begin(), expected.end(), woken);
      if (found == expected.end()) return false;
      expected.erase(found);
    }
    if (!expected.empty() || wheel.size() != waiting.size()) return false;
    return waiting.empty() || tick_of(waiting.begin()->first) + 1 > tick_of(now_ns);
  }
};

}  // namespace

TEST_CASE("timer wheel: 100,000 random timers, cancels and jumps agree with a sorted list",
          "[unit][timer]") {
  SimRandom random(first_seed());
  INFO("WEFT_SEED=" << first_seed());
  auto model = std::make_unique<Model>();
  std::vector<ModelTimer> timers(2000);
  std::vector<Fiber> fibers(timers.size());
  std::vector<ModelTimer*> idle;
  for (size_t i = 0; i < timers.size(); i++) {
    if (i % 2 == 0) timers[i].fiber = &fibers[i];
    idle.push_back(&timers[i]);
  }
  int64_t now_ns = random_span(random);
  size_t inserted = 0;
  while (inserted < 100'000) {
    const uint64_t choice = random.below(10);
    if (choice < 6 && !idle.empty()) {
      // A few lie in the past, as the deadlines of late callers do.
      const int64_t deadline =
          random.chance(0.05) ? now_ns - random_span(random) : now_ns + random_span(random);
      model->insert(*idle.back(), deadline, now_ns);
      idle.pop_back();
      inserted++;
    } else if (choice < 8 && !model->waiting.empty()) {
      auto victim = model->waiting.lower_bound(now_ns + random_span(random));
      if (victim == model->waiting.end()) victim = model->waiting.begin();
      ModelTimer& timer = *victim->second;
      model->cancel(timer);
      timer.cancel();  // once more: does nothing
      idle.push_back(&timer);
    } else {
      // Mostly small steps, so that many timers are waiting; now and then far.
      now_ns +=
          random.chance(0.1) ? random_span(random) >> random.below(8) : random_span(random) >> 30;
      REQUIRE(model->advance(now_ns));
      idle.insert(idle.end(), model->fired.begin(), model->fired.end());
    }
  }
  while (!model->waiting.empty()) {
    const int64_t next_ns = model->wheel.next_deadline_ns();
    REQUIRE(next_ns <= (tick_of(model->waiting.begin()->first) + 1) * kTickNs);
    now_ns = std::max(now_ns, next_ns);
    REQUIRE(model->advance(now_ns));
  }
  REQUIRE(model->wheel.empty());
  REQUIRE(model->wheel.next_deadline_ns() == INT64_MAX);
}

TEST_CASE("timer wheel: followed from deadline to deadline, a tick late at most", "[unit][timer]") {
  for_seeds([](uint64_t seed) {
    SimRandom random(seed);
    auto model = std::make_unique<Model>();
    std::vector<ModelTimer> timers(100);
    int64_t now_ns = random_span(random);
    for (ModelTimer& timer : timers) {
      model->insert(timer, now_ns + random_span(random) + 1, now_ns);
    }
    size_t rounds = 0;
    size_t fired = 0;
    while (!model->wheel.empty()) {
      const int64_t next_ns = model->wheel.next_deadline_ns();
      REQUIRE(next_ns > now_ns);
      now_ns = next_ns;
      REQUIRE(model->advance(now_ns));
      for (const ModelTimer* timer : model->fired) REQUIRE(now_ns <= timer->deadline_ns + kTickNs);
      fired += model->fired.size();
      rounds++;
    }
    REQUIRE(fired == timers.size());
    // Each timer is moved down at most once a level, and beyond the wheel's reach (2^56 is 32 half
    // turns of 2^51) once more for each half turn.
    REQUIRE(rounds <= timers.size() * (TimerWheel::kLevels + 1) + 40);
  });
}

TEST_CASE("timer wheel: deadlines beyond its reach and at both ends of time", "[unit][timer]") {
  auto model = std::make_unique<Model>();
  constexpr int64_t kDayNs = 86'400'000'000'000;
  std::vector<ModelTimer> timers(7);
  const int64_t start_ns = 5 * kDayNs + 12345;
  const int64_t deadlines[] = {INT64_MIN,    -1,           0, start_ns, 60 * kDayNs,
                               800 * kDayNs, INT64_MAX - 1};
  for (size_t i = 0; i < timers.size(); i++) model->insert(timers[i], deadlines[i], start_ns);
  REQUIRE(model->advance(start_ns + kTickNs));
  REQUIRE(model->fired.size() == 4);
  REQUIRE(model->advance(60 * kDayNs - 1));
  REQUIRE(model->fired.empty());
  REQUIRE(model->advance(60 * kDayNs + kTickNs));
  REQUIRE(model->fired.size() == 1);
  // In one jump over many turns of the wheel.
  REQUIRE(model->advance(801 * kDayNs));
  REQUIRE(model->fired.size() == 1);
  REQUIRE(model->wheel.size() == 1);
  model->cancel(timers.back());
  REQUIRE(model->wheel.empty());
}

TEST_CASE("timer wheel: a wheel that was empty for long starts from now", "[unit][timer]") {
  auto model = std::make_unique<Model>();
  ModelTimer timer;
  model->insert(timer, 1000, 0);
  REQUIRE(model->advance(kTickNs));
  constexpr int64_t kLaterNs = int64_t{1} << 55;
  model->insert(timer, kLaterNs + 10 * kTickNs, kLaterNs);
  REQUIRE(model->wheel.next_deadline_ns() > kLaterNs);
  REQUIRE(model->advance(kLaterNs + 9 * kTickNs));
  REQUIRE(model->fired.empty());
  REQUIRE(model->advance(kLaterNs + 11 * kTickNs));
  REQUIRE(model->fired.size() == 1);
}

TEST_CASE("timer wheel: cancels from other threads, after which a timer never fires",
          "[unit][timer][threads]") {
  struct SharedTimer : Timer {
    std::atomic<int> fired{0};
    std::atomic<bool> claimed{false};
    std::atomic<bool> cancelled{false};
    bool fired_late = false;  // under the wheel's lock
  };
  constexpr size_t kTimers = 20'000;
  auto wheel = std::make_unique<TimerWheel>();
  std::vector<SharedTimer> timers(kTimers);
  std::atomic<size_t> inserted{0};
  std::atomic<bool> over{false};
  const auto cancel_some = [&](uint64_t seed) {
    SimRandom random(seed);
    while (!over.load(std::memory_order_acquire)) {
      const size_t count = inserted.load(std::memory_order_acquire);
      if (count == 0) continue;
      // Mostly recent ones, which are about to fire.
      const size_t back = random.below(std::min<size_t>(count, 200));
      SharedTimer& timer = timers[count - 1 - back];
      if (timer.claimed.exchange(true, std::memory_order_acq_rel)) continue;
      timer.cancel();
      timer.cancelled.store(true, std::memory_order_release);
    }
  };
  std::thread first(cancel_some, first_seed());
  std::thread second(cancel_some, first_seed() + 1);
  SimRandom random(first_seed() + 2);
  int64_t now_ns = 1'000'000'000;
  for (SharedTimer& timer : timers) {
    timer.deadline_ns = now_ns + static_cast<int64_t>(random.below(100)) * kTickNs;
    timer.fire = [](Timer& self) -> Fiber* {
      auto& shared = static_cast<SharedTimer&>(self);
      shared.fired_late = shared.cancelled.load(std::memory_order_acquire);
      shared.fired.fetch_add(1, std::memory_order_relaxed);
      return nullptr;
    };
    wheel->insert(timer, now_ns);
    inserted.fetch_add(1, std::memory_order_release);
    now_ns += kTickNs;
    REQUIRE(wheel->advance(now_ns) == nullptr);
  }
  over.store(true, std::memory_order_release);
  first.join();
  second.join();
  wheel->advance(now_ns + 200 * kTickNs);
  REQUIRE(wheel->empty());
  size_t cancelled = 0;
  for (const SharedTimer& timer : timers) {
    REQUIRE(timer.fired.load() <= 1);
    REQUIRE_FALSE(timer.fired_late);
    if (timer.fired.load() == 0) {
      REQUIRE(timer.cancelled.load());
      cancelled++;
    }
  }
  INFO("cancelled " << cancelled);
  REQUIRE(cancelled < kTimers);
}

}  // namespace weft::scheduler_test
