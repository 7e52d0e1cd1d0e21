// stress_test.cc - thousands of fibers on four real workers: exact counts, no lost wake-up, and
// workers without work that really sleep. Seconds, not minutes; each wait has a bound.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <vector>

#include "platform/os.h"
#include "platform/sim/sim_random.h"
#include "tests/scheduler/futex_sync.h"
#include "tests/scheduler/io_ops.h"
#include "tests/scheduler/real_scheduler.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {
namespace {

using platform::SimRandom;

constexpr uint32_t kWorkers = 4;
constexpr int64_t kTickNs = int64_t{1} << TimerWheel::kTickShift;

int64_t cpu_ns() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * int64_t{1'000'000'000} +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * int64_t{1000};
}

int64_t soon(SimRandom& random, uint64_t ticks) {
  return platform::monotonic_ns() + static_cast<int64_t>(random.below(ticks)) * kTickNs;
}

// Two fibers that hand a ball to and fro.
struct Pair {
  Word ball{0};
  uint32_t passes = 0;

  void play(uint32_t mine, uint32_t rounds) {
    for (uint32_t round = 0; round < rounds; round++) {
      for (uint32_t seen = ball.load(); seen % 2 != mine; seen = ball.load()) wait_on(ball, seen);
      passes++;
      ball.fetch_add(1);
      wake(ball);
    }
  }
};

struct Pipe {
  Pipe() { REQUIRE(pipe(fds) == 0); }
  ~Pipe() {
    close(fds[0]);
    close(fds[1]);
  }
  int fds[2] = {-1, -1};
};

}  // namespace

TEST_CASE("stress: thousands of fibers yield, play, sleep and pipe; all counts exact", "[stress]") {
  RealScheduler real(kWorkers);
  constexpr size_t kEach = 1000;
  constexpr uint32_t kRounds = 200;
  std::atomic<uint64_t> yields{0};
  std::atomic<uint64_t> early{0};
  std::atomic<uint64_t> wrong_bytes{0};
  std::atomic<uint64_t> bytes{0};
  std::vector<Pair> pairs(kEach);
  std::vector<std::unique_ptr<Pipe>> pipes;
  for (size_t i = 0; i < 100; i++) pipes.push_back(std::make_unique<Pipe>());
  for (size_t i = 0; i < kEach; i++) {
    real.spawn([&] {
      for (uint32_t round = 0; round < kRounds; round++) {
        yields.fetch_add(1);
        yield();
      }
    });
    for (uint32_t side = 0; side < 2; side++) {
      real.spawn([&, i, side] { pairs[i].play(side, kRounds); });
    }
    real.spawn([&, i] {
      SimRandom random(first_seed() + i);
      for (int round = 0; round < 20; round++) {
        const int64_t deadline = soon(random, 200);
        sleep_until(deadline);
        if (platform::monotonic_ns() < deadline) early.fetch_add(1);
      }
    });
  }
  for (auto& pipe : pipes) {
    real.spawn([&, fd = pipe->fds[1]] {
      for (uint32_t round = 0; round < kRounds; round++) {
        const char byte = static_cast<char>(round);
        if (park_for(write_op(fd, &byte, 1)) != 1) wrong_bytes.fetch_add(1);
      }
    });
    real.spawn([&, fd = pipe->fds[0]] {
      for (uint32_t round = 0; round < kRounds; round++) {
        char byte = 0;
        const int64_t result = park_for(read_op(fd, &byte, 1));
        if (result != 1 || byte != static_cast<char>(round)) wrong_bytes.fetch_add(1);
        bytes.fetch_add(1);
      }
    });
  }
  real.wait_all();
  REQUIRE(yields.load() == kEach * kRounds);
  for (const Pair& pair : pairs) REQUIRE(pair.passes == 2 * kRounds);
  REQUIRE(early.load() == 0);
  REQUIRE(wrong_bytes.load() == 0);
  REQUIRE(bytes.load() == pipes.size() * kRounds);
}

TEST_CASE("stress: wakes, deadlines, requeues and waits for several words; told equals woken",
          "[stress]") {
  RealScheduler real(kWorkers);
  std::vector<Word> words(6);
  std::atomic<uint64_t> woken{0};
  std::atomic<uint64_t> told{0};
  std::atomic<uint64_t> woken_any{0};
  std::atomic<uint64_t> told_any{0};
  std::atomic<uint64_t> wrong{0};
  std::vector<Word> any_words(3);
  constexpr uint32_t kWaiters = 60;
  std::atomic<uint32_t> waiting{2 * kWaiters};
  for (uint32_t i = 0; i < kWaiters; i++) {
    real.spawn([&, i] {
      SimRandom random(first_seed() + i);
      for (int round = 0; round < 500; round++) {
        const Word& word = words[random.below(words.size())];
        if (wait_on(word, 0, soon(random, 10)) == FutexOutcome::woken) woken.fetch_add(1);
        if (random.chance(0.2)) yield();
      }
      waiting.fetch_sub(1);
    });
    real.spawn([&, i] {
      SimRandom random(first_seed() + 1000 + i);
      for (int round = 0; round < 500; round++) {
        FutexWaitItem items[3];
        for (size_t k = 0; k < 3; k++) {
          items[k] = {key_of(any_words[k]), address_of(any_words[k]), 0};
        }
        uint32_t index = 3;
        if (futex_wait_any(items, 3, soon(random, 10), index) == FutexOutcome::woken) {
          woken_any.fetch_add(1);
          if (index >= 3) wrong.fetch_add(1);
        }
      }
      waiting.fetch_sub(1);
    });
  }
  for (uint32_t i = 0; i < 4; i++) {
    real.spawn([&, i] {
      SimRandom random(first_seed() + 2000 + i);
      while (waiting.load() != 0) {
        const Word& from = words[random.below(words.size())];
        const Word& to = words[random.below(words.size())];
        told.fetch_add(futex_requeue(key_of(from), key_of(to), 1, 3, nullptr, nullptr).woken);
        told.fetch_add(wake(words[random.below(words.size())], 2));
        told_any.fetch_add(wake(any_words[random.below(any_words.size())]));
        if (random.chance(0.5)) {
          sleep_until(soon(random, 3));
        } else {
          yield();
        }
      }
    });
  }
  real.wait_all();
  REQUIRE(woken.load() == told.load());
  // A waker that finds a waiter on its way to park may wake it without being told.
  REQUIRE(woken_any.load() >= told_any.load());
  REQUIRE(wrong.load() == 0);
  for (const Word& word : words) REQUIRE(wake(word, kAll) == 0);
  for (const Word& word : any_words) REQUIRE(wake(word, kAll) == 0);
}

TEST_CASE("stress: interrupts of every kind of wait, none lost, none doubled", "[stress]") {
  RealScheduler real(kWorkers);
  constexpr uint32_t kTargets = 8;
  constexpr uint32_t kInterrupts = 3000;
  struct Target {
    Pipe pipe;
    Word word{0};
    Word other{0};
    std::atomic<uint32_t> sent{0};
    std::atomic<uint32_t> noted{0};
    Fiber* fiber = nullptr;
  };
  std::vector<Target> targets(kTargets);
  std::atomic<uint32_t> wrong{0};
  for (uint32_t i = 0; i < kTargets; i++) {
    Target& target = targets[i];
    target.fiber = &real.spawn([&, i] {
      SimRandom random(first_seed() + i);
      while (target.noted.load() < kInterrupts) {
        const bool forever = random.chance(0.3);
        const int64_t deadline = forever ? platform::kForever : soon(random, 8);
        bool interrupted = false;
        switch (random.below(4)) {
          case 0:
            interrupted = wait_on(target.word, 0, deadline) == FutexOutcome::interrupted;
            break;
          case 1:
            interrupted = sleep_until(deadline) == IoOutcome::interrupted;
            break;
          case 2: {
            const FutexWaitItem items[2] = {{key_of(target.word), address_of(target.word), 0},
                                            {key_of(target.other), address_of(target.other), 0}};
            uint32_t index = 0;
            interrupted = futex_wait_any(items, 2, deadline, index) == FutexOutcome::interrupted;
            break;
          }
          default: {
            char byte;
            IoCompletion read = read_op(target.pipe.fds[0], &byte, 1);
            interrupted =
                park_on(&read, 1, deadline, true, WaitReason::io) == IoOutcome::interrupted;
            if (read.result != 1 && read.result != -ECANCELED) wrong.fetch_add(1);
            break;
          }
        }
        const bool taken = take_interrupt();
        if (interrupted && !taken) wrong.fetch_add(1);
        if (taken) target.noted.fetch_add(1);
      }
    });
  }
  for (uint32_t i = 0; i < kTargets; i++) {
    real.spawn([&, i] {
      Target& target = targets[i];
      SimRandom random(first_seed() + 100 + i);
      while (target.sent.load() < kInterrupts) {
        if (target.noted.load() == target.sent.load()) {
          target.sent.fetch_add(1);
          interrupt(*target.fiber);
        }
        if (random.chance(0.2)) wake(random.chance(0.5) ? target.word : target.other);
        if (random.chance(0.1)) park_for(write_op(target.pipe.fds[1], "w", 1));
        if (random.chance(0.3)) {
          sleep_until(soon(random, 3));
        } else {
          yield();
        }
      }
    });
  }
  real.wait_all();
  REQUIRE(wrong.load() == 0);
  for (const Target& target : targets) REQUIRE(target.noted.load() == kInterrupts);
}

TEST_CASE("stress: idle workers miss no fiber that another thread makes ready", "[stress]") {
  const uint32_t workers = GENERATE(1U, kWorkers);
  RealScheduler real(workers);
  std::atomic<uint32_t> ran{0};
  // Alone: every worker is asleep or just falling asleep.
  for (uint32_t round = 0; round < 20'000; round++) {
    real.spawn([&] { ran.fetch_add(1); });
    real.wait_all();
  }
  // A few at once, some of them back to sleep and woken by each other.
  for (uint32_t round = 0; round < 5000; round++) {
    Pair pair;
    real.spawn([&] { pair.play(0, 3); });
    real.spawn([&] { pair.play(1, 3); });
    real.spawn([&] { ran.fetch_add(1); });
    real.wait_all();
    REQUIRE(pair.passes == 6);
  }
  REQUIRE(ran.load() == 25'000);
}

TEST_CASE("stress: workers without work sleep, and wake for nothing", "[stress]") {
  RealScheduler real(kWorkers);
  Word gate{0};
  const int64_t deadline = platform::monotonic_ns() + 2'000'000'000;
  for (int i = 0; i < 20; i++) {
    real.spawn([&] {
      while (gate.load() == 0) wait_on(gate, 0, deadline);
    });
  }
  real.wait_for("workers to sleep", [&] {
    uint32_t parked = 0;
    for (uint32_t i = 0; i < kWorkers; i++) parked += real.worker(i).timers.size();
    return parked == 20;
  });
  const uint64_t sleeps = real.sum(&WorkerStats::sleeps);
  const uint64_t polls = real.sum(&WorkerStats::polls);
  const int64_t cpu_before = cpu_ns();
  // The measure is taken over this span, in which nothing is to happen.
  const uint32_t never = 0;
  platform::wait_on_word(&never, 0, platform::monotonic_ns() + 300'000'000);
  const int64_t cpu_used = cpu_ns() - cpu_before;
  // Timers move down a level now and then; on the way to sleep some looks are still due.
  REQUIRE(real.sum(&WorkerStats::sleeps) - sleeps <= 12 * kWorkers);
  REQUIRE(real.sum(&WorkerStats::polls) - polls <= 24 * kWorkers);
  REQUIRE(cpu_used < 100'000'000);
  gate.store(1);
  // From a thread that is no worker.
  REQUIRE(wake(gate, kAll) == 20);
  real.wait_all();
}

}  // namespace weft::scheduler_test
