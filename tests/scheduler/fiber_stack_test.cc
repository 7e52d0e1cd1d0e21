// fiber_stack_test.cc - stacks from slabs behave as the kernel's own mappings would.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "platform/os.h"
#include "platform/sim/sim_random.h"
#include "scheduler/fiber_stack.h"
#include "tests/scheduler/child_process.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {
namespace {

using platform::kPageBytes;

constexpr size_t kKib = 1024;
constexpr size_t kMib = 1024 * kKib;

char* map(size_t bytes) {
  auto* stack = static_cast<char*>(stack_map(bytes));
  REQUIRE(stack != nullptr);
  return stack;
}
uintptr_t number(const void* address) {
  return reinterpret_cast<uintptr_t>(address);
}
void unmap(void* stack, size_t bytes) {
  REQUIRE(stack_unmap(number(stack), bytes) == 0);
}

bool is_zero(const char* memory, size_t bytes) {
  return std::all_of(memory, memory + bytes, [](char byte) { return byte == 0; });
}

}  // namespace

TEST_CASE("fiber_stack: sizes of another shape are left to the kernel", "[unit][stack]") {
  const size_t bytes =
      GENERATE(size_t{0}, size_t{1}, kPageBytes, kPageBytes + 1, 3 * kPageBytes - 1,
               256 * kMib + kPageBytes, SIZE_MAX, SIZE_MAX - kPageBytes + 1);
  REQUIRE(stack_map(bytes) == nullptr);
}

TEST_CASE("fiber_stack: stacks are apart from each other and known as such", "[unit][stack]") {
  const size_t bytes = GENERATE(2 * kPageBytes, 3 * kPageBytes, 64 * kKib, 8 * kMib, 256 * kMib);
  // 256 MiB: four fill a slab.
  std::vector<char*> stacks;
  for (int i = 0; i < 9; i++) stacks.push_back(map(bytes));
  std::sort(stacks.begin(), stacks.end());
  for (size_t i = 0; i < stacks.size(); i++) {
    char* stack = stacks[i];
    if (i > 0) REQUIRE(stack >= stacks[i - 1] + bytes);
    REQUIRE(number(stack) % kPageBytes == 0);
    REQUIRE(stack_contains(number(stack), bytes));
    REQUIRE(stack_contains(number(stack) + bytes - 1, 1));
    REQUIRE_FALSE(stack_contains(number(stack), bytes + 1));
    REQUIRE_FALSE(stack_contains(number(stack) + kPageBytes, bytes));
    REQUIRE_FALSE(stack_contains(number(stack) + kPageBytes, SIZE_MAX));
    REQUIRE_FALSE(stack_contains(number(stack) + kPageBytes, SIZE_MAX - kPageBytes + 1));
    stack[0] = 1;
    stack[bytes - 1] = 1;
  }
  for (char* stack : stacks) unmap(stack, bytes);
}

TEST_CASE("fiber_stack: addresses outside the slabs are not contained", "[unit][stack]") {
  int local = 0;
  REQUIRE_FALSE(stack_contains(number(&local), 1));
  REQUIRE_FALSE(stack_contains(0, 1));
  REQUIRE_FALSE(stack_contains(UINTPTR_MAX, 1));
  REQUIRE_FALSE(stack_contains(uintptr_t{1} << 47, kPageBytes));
}

TEST_CASE("fiber_stack: a recycled stack reads as zero, like a fresh mapping", "[unit][stack]") {
  const size_t bytes = GENERATE(2 * kPageBytes, 16 * kKib, 20 * kKib, 64 * kKib, 8 * kMib);
  char* const first = map(bytes);
  REQUIRE(is_zero(first, bytes));
  for (int round = 0; round < 3; round++) {
    std::memset(first, 0xA5, bytes);
    unmap(first, bytes);
    // The last one back is the next one out.
    REQUIRE(map(bytes) == first);
    REQUIRE(is_zero(first, bytes));
  }
  unmap(first, bytes);
}

TEST_CASE("fiber_stack: all stacks read as zero, the warm ones and those beyond", "[unit][stack]") {
  constexpr size_t kBytes = 24 * kKib;
  std::vector<char*> stacks;
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 200; i++) stacks.push_back(map(kBytes));
    for (char* stack : stacks) {
      REQUIRE(is_zero(stack, kBytes));
      std::memset(stack, 0x5A, kBytes);
    }
    for (char* stack : stacks) unmap(stack, kBytes);
    std::sort(stacks.begin(), stacks.end());
    REQUIRE(std::adjacent_find(stacks.begin(), stacks.end()) == stacks.end());
    stacks.clear();
  }
}

TEST_CASE("fiber_stack: guards fault, and only they", "[unit][stack]") {
  constexpr size_t kBytes = 28 * kKib;
  char* const stack = map(kBytes);
  REQUIRE(stack_protect(number(stack), kPageBytes, false) == 0);
  REQUIRE(faults(stack, true));
  REQUIRE(faults(stack + kPageBytes - 1, false));
  stack[kPageBytes] = 1;
  stack[kBytes - 1] = 1;
  // Opening all but the guard, as glibc does, leaves it.
  REQUIRE(stack_protect(number(stack) + kPageBytes, kBytes - kPageBytes, true) == 0);
  REQUIRE(faults(stack, true));
  REQUIRE(stack[kPageBytes] == 1);
  // Opening the guard itself ends it.
  REQUIRE(stack_protect(number(stack), kPageBytes, true) == 0);
  stack[0] = 1;
  REQUIRE(stack_protect(number(stack), 2 * kPageBytes, false) == 0);
  REQUIRE(faults(stack + kPageBytes, true));
  unmap(stack, kBytes);
  // The next owner gets it whole.
  REQUIRE(map(kBytes) == stack);
  REQUIRE(is_zero(stack, kBytes));
  std::memset(stack, 1, kBytes);
  unmap(stack, kBytes);
}

TEST_CASE("fiber_stack: an unmapped part faults, the rest stays, the next owner gets it whole",
          "[unit][stack]") {
  constexpr size_t kBytes = 32 * kKib;
  char* const stack = map(kBytes);
  std::memset(stack, 1, kBytes);
  REQUIRE(stack_unmap(number(stack) + kPageBytes, 2 * kPageBytes) == 0);
  REQUIRE(faults(stack + kPageBytes, false));
  REQUIRE(faults(stack + 3 * kPageBytes - 1, true));
  REQUIRE(stack[kPageBytes - 1] == 1);
  REQUIRE(stack[3 * kPageBytes] == 1);
  unmap(stack, kBytes);
  REQUIRE(map(kBytes) == stack);
  REQUIRE(is_zero(stack, kBytes));
  unmap(stack, kBytes);
}

TEST_CASE("fiber_stack: discard gives the cold pages back", "[unit][stack]") {
  constexpr size_t kBytes = 64 * kKib;
  char* const stack = map(kBytes);
  std::memset(stack, 1, kBytes);
  // As glibc does: all but what the dying thread still stands on.
  REQUIRE(stack_discard(number(stack), kBytes - kPageBytes) == 0);
  REQUIRE(is_zero(stack, 32 * kKib));
  REQUIRE(stack[kBytes - 1] == 1);
  unmap(stack, kBytes);
  REQUIRE(map(kBytes) == stack);
  REQUIRE(is_zero(stack, kBytes));
  unmap(stack, kBytes);
}

TEST_CASE("fiber_stack: beyond the number of sizes it knows, others are left to the kernel",
          "[unit][stack]") {
  // In a child: sizes are remembered for ever.
  const int status = status_in_child([] {
    char* const known = static_cast<char*>(stack_map(64 * kKib));
    std::vector<size_t> served;
    size_t refused = 0;
    for (size_t pages = 100; pages < 140; pages++) {
      if (stack_map(pages * kPageBytes) != nullptr) {
        if (refused != 0) return 1;
        served.push_back(pages);
      } else {
        refused++;
      }
    }
    if (refused < 8 || served.size() < 10) return 2;
    // The known ones go on.
    for (const size_t pages : served) {
      if (stack_map(pages * kPageBytes) == nullptr) return 3;
    }
    if (stack_unmap(number(known), 64 * kKib) != 0) return 4;
    return stack_map(64 * kKib) == known ? 0 : 5;
  });
  REQUIRE(status == 0);
}

TEST_CASE("fiber_stack: kernel threads map and unmap at once, nobody shares a stack",
          "[unit][stack][threads]") {
  std::atomic<int> shared{0};
  std::vector<std::thread> threads;
  for (uint64_t self = 0; self < 3; self++) {
    threads.emplace_back([&, self] {
      platform::SimRandom random(first_seed() + self);
      struct Held {
        uint64_t* word;
        size_t bytes;
        uint64_t mark;
      };
      std::vector<Held> held;
      for (uint64_t round = 0; round < 3000; round++) {
        if (held.size() < 20 && random.chance(0.55)) {
          const size_t bytes = (1 + random.below(3)) * 40 * kKib;
          auto* word = static_cast<uint64_t*>(stack_map(bytes));
          if (word == nullptr || *word != 0) {
            shared.fetch_add(1);
            continue;
          }
          *word = (self << 32) | (round + 1);
          held.push_back({word, bytes, *word});
        } else if (!held.empty()) {
          const size_t chosen = random.below(held.size());
          if (*held[chosen].word != held[chosen].mark) shared.fetch_add(1);
          stack_unmap(number(held[chosen].word), held[chosen].bytes);
          held[chosen] = held.back();
          held.pop_back();
        }
      }
      for (const Held& one : held) stack_unmap(number(one.word), one.bytes);
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(shared.load() == 0);
}

TEST_CASE("fiber_stack: a fork in the middle of it leaves the child working slabs",
          "[unit][stack][threads]") {
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (!over.load()) stack_unmap(number(stack_map(48 * kKib)), 48 * kKib);
  });
  for (int round = 0; round < 20; round++) {
    stack_slabs_before_fork();
    const pid_t child = fork();
    stack_slabs_after_fork();
    if (child == 0) {
      // _exit: nothing of the parent's may run here.
      alarm(60);
      auto* stack = static_cast<char*>(stack_map(48 * kKib));
      if (stack == nullptr || !is_zero(stack, 48 * kKib)) _exit(1);
      _exit(stack_unmap(number(stack), 48 * kKib) == 0 ? 0 : 2);
    }
    int status = -1;
    REQUIRE(child > 0);
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  over.store(true);
  other.join();
}

}  // namespace weft::scheduler_test
