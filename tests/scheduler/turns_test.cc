// turns_test.cc - who runs when: every fiber to its end, nobody starves, no worker sleeps on work.
// Method: simulated workers whose order the seed chooses (sim_scheduler.h), exact counts.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <algorithm>
#include <vector>

#include "scheduler/io_wait.h"
#include "tests/scheduler/futex_sync.h"
#include "tests/scheduler/io_ops.h"
#include "tests/scheduler/sim_scheduler.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {

TEST_CASE("turns: every fiber runs to its end, each step once", "[sim][turns]") {
  const uint32_t workers = GENERATE(1U, 2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    constexpr size_t kFibers = 40;
    std::vector<int> steps(kFibers);
    for (size_t i = 0; i < kFibers; i++) {
      sim.spawn([&, i] {
        for (size_t step = 0; step < i; step++) {
          steps[i]++;
          yield();
        }
      });
    }
    sim.run();
    for (size_t i = 0; i < kFibers; i++) REQUIRE(steps[i] == static_cast<int>(i));
  });
}

TEST_CASE("turns: fibers made by fibers, more than a ready queue holds", "[sim][turns]") {
  const uint32_t workers = GENERATE(1U, 4U);
  SimScheduler sim(first_seed(), workers);
  constexpr size_t kFibers = 3 * ReadyQueue::kCapacity;
  std::vector<int> runs(kFibers);
  sim.spawn([&] {
    for (size_t i = 0; i < kFibers; i++) {
      sim.spawn([&, i] {
        yield();
        runs[i]++;
      });
    }
  });
  sim.run();
  REQUIRE(std::count(runs.begin(), runs.end(), 1) == static_cast<int64_t>(kFibers));
}

TEST_CASE("turns: the same seed gives the same order", "[sim][turns]") {
  const auto order_of = [](uint64_t seed) {
    SimScheduler sim(seed, 4);
    std::vector<int> order;
    for (int i = 0; i < 30; i++) {
      sim.spawn([&, i] {
        for (int round = 0; round < 5; round++) {
          order.push_back(i);
          yield();
        }
      });
    }
    sim.run();
    return order;
  };
  const std::vector<int> order = order_of(first_seed());
  REQUIRE(order == order_of(first_seed()));
  size_t different = 0;
  for (uint64_t i = 1; i <= 10; i++) different += order_of(first_seed() + i) != order ? 1U : 0U;
  REQUIRE(different == 10);
}

TEST_CASE("turns: no yielding fiber waits for more than two rounds of the others", "[sim][turns]") {
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, 1);
    constexpr size_t kFibers = 20;
    std::vector<size_t> last(kFibers);
    size_t now = 0;
    size_t longest = 0;
    for (size_t i = 0; i < kFibers; i++) {
      sim.spawn([&, i] {
        last[i] = now;
        for (int round = 0; round < 50; round++) {
          yield();
          longest = std::max(longest, ++now - last[i]);
          last[i] = now;
        }
      });
    }
    sim.run();
    REQUIRE(longest <= 2 * kFibers);
  });
}

TEST_CASE("turns: with several workers no yielding fiber is forgotten", "[sim][turns]") {
  const uint32_t workers = GENERATE(2U, 4U, 8U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    constexpr size_t kFibers = 12;
    constexpr int kRounds = 1500;
    std::vector<int> rounds(kFibers);
    int behind = 0;
    for (size_t i = 0; i < kFibers; i++) {
      sim.spawn([&, i] {
        while (rounds[i] < kRounds) {
          rounds[i]++;
          yield();
        }
        // The first to be done looks how far the slowest has come.
        if (behind == 0) behind = kRounds - *std::min_element(rounds.begin(), rounds.end()) + 1;
      });
    }
    sim.run();
    // A forgotten one would not have moved at all. A worker may hold more fibers than another for
    // as long as none of them sleeps, so that rounds are not shared evenly.
    REQUIRE(behind < kRounds);
  });
}

TEST_CASE("turns: two fibers that wake each other do not starve a third", "[sim][turns]") {
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, 1);
    Word ball{0};
    bool stop = false;
    uint64_t exchanges = 0;
    uint64_t longest = 0;
    const auto play = [&](uint32_t mine) {
      while (!stop) {
        while (ball.load() != mine && !stop) wait_on(ball, 1 - mine);
        exchanges++;
        ball.store(1 - mine);
        wake(ball);
      }
      wake(ball, kAll);
    };
    sim.spawn([&] { play(0); });
    sim.spawn([&] { play(1); });
    sim.spawn([&] {
      for (int round = 0; round < 50; round++) {
        const uint64_t before = exchanges;
        yield();
        longest = std::max(longest, exchanges - before);
      }
      stop = true;
    });
    sim.run();
    REQUIRE(exchanges > 50);
    // The next slot's budget of 16 turns, and what ran before it was counted.
    REQUIRE(longest <= 20);
  });
}

TEST_CASE("turns: a busy worker takes from the global queue within two periods", "[sim][turns]") {
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, 1);
    bool stop = false;
    uint64_t turns = 0;
    uint64_t longest = 0;
    for (int i = 0; i < 3; i++) {
      sim.spawn([&] {
        while (!stop) {
          turns++;
          yield();
        }
      });
    }
    sim.spawn([&] {
      for (int round = 0; round < 20; round++) {
        bool ran = false;
        const uint64_t before = turns;
        sim.spawn_foreign([&] {
          longest = std::max(longest, turns - before);
          ran = true;
        });
        while (!ran) {
          turns++;
          yield();
        }
      }
      stop = true;
    });
    sim.run();
    // 61 turns, up to 64 of which run from one to the next without the loop.
    REQUIRE(longest <= 61 + 64);
  });
}

TEST_CASE("turns: work that wakes one sleeping worker spreads to all of them", "[sim][turns]") {
  // Whoever makes work wakes one worker at most; that one passes the word on when it finds more.
  for_seeds([&](uint64_t seed) {
    constexpr uint32_t kWorkers = 4;
    SimScheduler sim(seed, kWorkers);
    uint64_t before[kWorkers] = {};
    sim.spawn([&] {
      // Time moves when every worker sleeps.
      sleep_until(sim.now_ns() + 1'000'000'000);
      for (uint32_t i = 0; i < kWorkers; i++)
        before[i] = sim.worker(i).worker.stats.switches.load();
      for (int i = 0; i < 16; i++) {
        sim.spawn_foreign([] {
          for (int round = 0; round < 1000; round++) yield();
        });
      }
    });
    sim.run();
    for (uint32_t i = 0; i < kWorkers; i++) {
      REQUIRE(sim.worker(i).worker.stats.switches.load() > before[i] + 100);
    }
  });
}

TEST_CASE("turns: a bound fiber has its worker to itself and meets the others", "[sim][turns]") {
  const uint32_t workers = GENERATE(1U, 4U);
  for_seeds([&](uint64_t seed) {
    SimScheduler sim(seed, workers);
    const auto [reader, writer] = sim.files().make_pipe();
    Word ball{0};
    int bound_rounds = 0;
    int64_t received = 0;
    sim.spawn_bound([&, reader = reader] {
      Worker* const home = current_worker();
      for (uint32_t round = 0; round < 20; round++) {
        while (ball.load() != 2 * round + 1) wait_on(ball, 2 * round);
        ball.store(2 * round + 2);
        wake(ball);
        yield();
        SIM_EXPECT(sim, sleep_until(sim.now_ns() + 100'000) == IoOutcome::timed_out);
        SIM_EXPECT(sim, current_worker() == home);
        bound_rounds++;
      }
      char buffer[8];
      received = park_for(read_op(reader, buffer, sizeof buffer));
      SIM_EXPECT(sim, current_worker() == home);
    });
    sim.spawn([&, writer = writer] {
      for (uint32_t round = 0; round < 20; round++) {
        ball.store(2 * round + 1);
        wake(ball);
        while (ball.load() != 2 * round + 2) wait_on(ball, 2 * round + 1);
        SIM_EXPECT(sim, !current_worker()->bound);
      }
      SIM_EXPECT(sim, park_for(write_op(writer, "bound", 5)) == 5);
    });
    for (int i = 0; i < 5; i++) {
      sim.spawn([&] {
        for (int round = 0; round < 30; round++) {
          SIM_EXPECT(sim, !current_worker()->bound);
          yield();
        }
      });
    }
    sim.run();
    REQUIRE(bound_rounds == 20);
    REQUIRE(received == 5);
  });
}

TEST_CASE("turns: the worker of a parked bound fiber sleeps, however busy the others are",
          "[sim][turns]") {
  SimScheduler sim(first_seed(), 1);
  Word gate{0};
  sim.spawn_bound([&] {
    while (gate.load() == 0) wait_on(gate, 0);
  });
  uint64_t polls = 0;
  sim.spawn([&] {
    for (int i = 0; i < 20; i++) {
      sim.spawn([] {
        for (int round = 0; round < 200; round++) yield();
      });
    }
    for (int round = 0; round < 200; round++) yield();
    polls = sim.worker(1).worker.stats.polls.load();
    gate.store(1);
    wake(gate);
  });
  sim.run();
  // At the start, and when a wake-up came; not once for every turn of the busy worker.
  REQUIRE(polls <= 8);
}

}  // namespace weft::scheduler_test
