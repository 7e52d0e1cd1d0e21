// queues_test.cc - ready queue, global queue, mailbox and spin lock on real kernel threads.
// Method: every thing put in is counted where it comes out, bounded numbers of rounds. Plain fields
// are written before the hand-over and read after it, which ThreadSanitizer checks.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "platform/sim/sim_random.h"
#include "scheduler/global_queue.h"
#include "scheduler/mailbox.h"
#include "scheduler/ready_queue.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {
namespace {

struct Item {
  Fiber fiber;
  std::atomic<int> taken{0};
};

// A fiber that comes out is one that went in, with its fields.
void take(std::vector<Item>& items, const Fiber& fiber) {
  // wait_object is a plain field: the pusher wrote the item's index there.
  items[reinterpret_cast<uintptr_t>(fiber.wait_object)].taken.fetch_add(1,
                                                                        std::memory_order_relaxed);
}

Fiber& prepare(std::vector<Item>& items, size_t index) {
  items[index].fiber.wait_object = reinterpret_cast<const volatile void*>(index);
  return items[index].fiber;
}

size_t count_taken_once(const std::vector<Item>& items) {
  size_t count = 0;
  for (const Item& item : items) count += item.taken.load() == 1 ? 1U : 0U;
  return count;
}

}  // namespace

TEST_CASE("ready queue: first in, first out, full at its capacity", "[unit][queue]") {
  auto queue = std::make_unique<ReadyQueue>();
  std::vector<Fiber> fibers(ReadyQueue::kCapacity + 1);
  REQUIRE(queue->pop() == nullptr);
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < ReadyQueue::kCapacity; i++) REQUIRE(queue->push(&fibers[i]));
    REQUIRE_FALSE(queue->push(&fibers.back()));
    REQUIRE(queue->size() == ReadyQueue::kCapacity);
    for (size_t i = 0; i < ReadyQueue::kCapacity; i++) REQUIRE(queue->pop() == &fibers[i]);
    REQUIRE(queue->pop() == nullptr);
    // So that the ring is crossed at another place the next time.
    REQUIRE(queue->push(&fibers[0]));
    REQUIRE(queue->pop() == &fibers[0]);
  }
}

TEST_CASE("ready queue: a thief takes the older half, one of them in its hand", "[unit][queue]") {
  const uint32_t count = GENERATE(0U, 1U, 2U, 3U, 7U, 256U);
  auto victim = std::make_unique<ReadyQueue>();
  auto thief = std::make_unique<ReadyQueue>();
  std::vector<Fiber> fibers(count);
  for (Fiber& fiber : fibers) REQUIRE(victim->push(&fiber));
  Fiber* in_hand = victim->steal_half(*thief);
  const uint32_t half = count - count / 2;
  REQUIRE(victim->size() == count - half);
  REQUIRE(thief->size() == (half == 0 ? 0 : half - 1));
  REQUIRE(in_hand == (half == 0 ? nullptr : &fibers[half - 1]));
  for (uint32_t i = 0; i + 1 < half; i++) REQUIRE(thief->pop() == &fibers[i]);
  for (uint32_t i = half; i < count; i++) REQUIRE(victim->pop() == &fibers[i]);
}

TEST_CASE("ready queue: owner and thieves, every fiber taken exactly once",
          "[unit][queue][threads]") {
  const int thieves = GENERATE(1, 2, 3);
  constexpr size_t kItems = 200'000;
  std::vector<Item> items(kItems);
  auto queue = std::make_unique<ReadyQueue>();
  std::atomic<bool> over{false};
  std::atomic<size_t> stolen{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < thieves; i++) {
    threads.emplace_back([&] {
      auto own = std::make_unique<ReadyQueue>();
      bool last_round = false;
      while (!last_round) {
        // Read before the look: what was pushed before it is found by this round.
        last_round = over.load(std::memory_order_acquire);
        Fiber* fiber = queue->steal_half(*own);
        for (; fiber != nullptr; fiber = own->pop()) {
          take(items, *fiber);
          stolen.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  platform::SimRandom random(first_seed());
  size_t pushed = 0;
  while (pushed < kItems) {
    const uint64_t burst = 1 + random.below(20);
    for (uint64_t i = 0; i < burst && pushed < kItems; i++) {
      if (!queue->push(&prepare(items, pushed))) break;
      pushed++;
    }
    const uint64_t pops = random.below(12);
    for (uint64_t i = 0; i < pops; i++) {
      if (Fiber* fiber = queue->pop()) take(items, *fiber);
    }
  }
  over.store(true, std::memory_order_release);
  for (std::thread& thread : threads) thread.join();
  while (Fiber* fiber = queue->pop()) take(items, *fiber);
  REQUIRE(count_taken_once(items) == kItems);
  REQUIRE(stolen.load() > 0);
}

TEST_CASE("ready queue: thieves that steal from each other lose nothing",
          "[unit][queue][threads]") {
  constexpr size_t kThreads = 3;
  constexpr size_t kEach = 50'000;
  std::vector<Item> items(kThreads * kEach);
  std::vector<std::unique_ptr<ReadyQueue>> queues;
  for (size_t i = 0; i < kThreads; i++) queues.push_back(std::make_unique<ReadyQueue>());
  std::atomic<size_t> taken{0};
  std::vector<std::thread> threads;
  for (size_t self = 0; self < kThreads; self++) {
    threads.emplace_back([&, self] {
      platform::SimRandom random(first_seed() + self);
      size_t pushed = 0;
      while (taken.load(std::memory_order_relaxed) < items.size()) {
        for (uint64_t i = random.below(30); i > 0 && pushed < kEach; i--) {
          if (!queues[self]->push(&prepare(items, self * kEach + pushed))) break;
          pushed++;
        }
        for (uint64_t i = random.below(40); i > 0; i--) {
          Fiber* fiber = queues[self]->pop();
          if (fiber == nullptr) fiber = queues[random.below(kThreads)]->steal_half(*queues[self]);
          if (fiber == nullptr) break;
          take(items, *fiber);
          taken.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(count_taken_once(items) == items.size());
}

TEST_CASE("global queue: many pushers and poppers, every fiber once, in order of one pusher",
          "[unit][queue][threads]") {
  constexpr size_t kPushers = 2;
  constexpr size_t kEach = 50'000;
  std::vector<Item> items(kPushers * kEach);
  GlobalQueue queue;
  REQUIRE(queue.pop() == nullptr);
  std::atomic<size_t> taken{0};
  std::atomic<int> disorders{0};
  std::vector<std::thread> threads;
  for (size_t self = 0; self < kPushers; self++) {
    threads.emplace_back([&, self] {
      for (size_t i = 0; i < kEach; i++) queue.push(prepare(items, self * kEach + i));
    });
    threads.emplace_back([&] {
      size_t last[kPushers] = {};
      while (taken.load(std::memory_order_relaxed) < items.size()) {
        Fiber* fiber = queue.pop();
        if (fiber == nullptr) continue;
        const auto index = reinterpret_cast<uintptr_t>(fiber->wait_object);
        if (last[index / kEach] > index + 1) disorders.fetch_add(1);
        last[index / kEach] = index + 1;
        take(items, *fiber);
        taken.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(count_taken_once(items) == items.size());
  REQUIRE(disorders.load() == 0);
  REQUIRE(queue.empty());
}

TEST_CASE("mailbox: many posters, one reader, every message once, and again after it ran",
          "[unit][queue][threads]") {
  struct Letter : Message {
    uint64_t written = 0;  // plain: handed over by post() and take_all()
    uint64_t runs = 0;     // the reader's
    std::atomic<bool> free{true};
  };
  constexpr size_t kPosters = 3;
  constexpr size_t kLetters = 10;
  constexpr uint64_t kRounds = 20'000;
  Mailbox mailbox;
  REQUIRE(mailbox.empty());
  REQUIRE(mailbox.take_all() == nullptr);
  std::vector<Letter> letters(kPosters * kLetters);
  std::vector<std::thread> posters;
  for (size_t self = 0; self < kPosters; self++) {
    posters.emplace_back([&, self] {
      for (uint64_t round = 0; round < kRounds; round++) {
        Letter& letter = letters[self * kLetters + round % kLetters];
        while (!letter.free.load(std::memory_order_acquire)) std::this_thread::yield();
        letter.free.store(false, std::memory_order_relaxed);
        letter.written++;
        letter.run = [](Message& message) {
          auto& mine = static_cast<Letter&>(message);
          mine.runs++;
          mine.free.store(true, std::memory_order_release);
        };
        mailbox.post(letter);
      }
    });
  }
  uint64_t read = 0;
  while (read < kPosters * kRounds) {
    for (Message* message = mailbox.take_all(); message != nullptr; read++) {
      Message* following = message->next;
      message->run(*message);
      message = following;
    }
  }
  for (std::thread& poster : posters) poster.join();
  REQUIRE(mailbox.empty());
  for (const Letter& letter : letters) {
    REQUIRE(letter.runs == kRounds / kLetters);
    REQUIRE(letter.written == letter.runs);
  }
}

TEST_CASE("spin lock: excludes, and hands over what was written under it",
          "[unit][queue][threads]") {
  SpinLock lock;
  uint64_t count = 0;
  uint64_t other = 0;
  std::atomic<int> torn{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50'000; round++) {
        LockGuard guard(lock);
        if (count != other) torn.fetch_add(1);
        count++;
        other++;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(count == 150'000);
  REQUIRE(torn.load() == 0);
}

}  // namespace weft::scheduler_test
