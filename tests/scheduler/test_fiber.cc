// test_fiber.cc - making and recycling the tests' fibers.
// SPDX-License-Identifier: Apache-2.0
#include "tests/scheduler/test_fiber.h"

#include <mutex>
#include <stdexcept>
#include <vector>

#include "platform/os.h"
#include "scheduler/scheduler.h"

namespace weft::scheduler_test {
namespace {

std::mutex g_lock;
// Never destroyed: what they hold is to stay reachable to the end, for leak checkers too.
std::vector<char*>& free_stacks() {
  static auto& stacks = *new std::vector<char*>;
  return stacks;
}
std::vector<TestFiber*>& free_fibers() {
  static auto& fibers = *new std::vector<TestFiber*>;
  return fibers;
}

void fiber_main(void* argument) {
  Worker::finish_switch();
  auto& fiber = *static_cast<TestFiber*>(argument);
  fiber.body();
  fiber.body = nullptr;
  end_fiber(
      [](void* self) {
        auto& dead = *static_cast<TestFiber*>(self);
        dead.ended(dead);
      },
      &fiber);
}

}  // namespace

char* take_test_stack() {
  const std::lock_guard guard(g_lock);
  if (!free_stacks().empty()) {
    char* stack = free_stacks().back();
    free_stacks().pop_back();
    return stack;
  }
  auto* stack = static_cast<char*>(platform::map_memory(kTestStackBytes));
  if (stack == nullptr) throw std::runtime_error("no memory for a stack");
  return stack;
}

void give_test_stack(char* stack) {
  const std::lock_guard guard(g_lock);
  free_stacks().push_back(stack);
}

TestFiber& make_test_fiber(std::function<void()> body, void (*ended)(TestFiber&), void* owner) {
  TestFiber* fiber = nullptr;
  {
    const std::lock_guard guard(g_lock);
    if (!free_fibers().empty()) {
      fiber = free_fibers().back();
      free_fibers().pop_back();
    }
  }
  if (fiber == nullptr) {
    fiber = new TestFiber;
    fiber->stack = take_test_stack();
  }
  // The ticket in wait_word goes on counting: late wakers of the fiber's last life must miss.
  fiber->attention.store(0, std::memory_order_relaxed);
  fiber->bound = false;
  fiber->home = nullptr;
  fiber->body = std::move(body);
  fiber->ended = ended;
  fiber->owner = owner;
  platform::make_context(fiber->context, fiber->stack + kTestStackBytes, fiber_main, fiber);
  return *fiber;
}

void recycle_test_fiber(TestFiber& fiber) {
  const std::lock_guard guard(g_lock);
  free_fibers().push_back(&fiber);
}

void interrupt(Fiber& fiber) {
  // Step 1 of the interrupter; interrupt_wait() has the barrier.
  fiber.attention.fetch_or(kAttentionSignal, std::memory_order_seq_cst);
  interrupt_wait(fiber);
}

bool take_interrupt() {
  // Sequentially consistent, as the call floor's: what the interrupter wrote before is visible.
  const uint32_t before =
      current_fiber()->attention.fetch_and(~kAttentionSignal, std::memory_order_seq_cst);
  return (before & kAttentionSignal) != 0;
}

}  // namespace weft::scheduler_test
