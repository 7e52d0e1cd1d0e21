// test_fiber.h - fibers for tests: a body, a stack of their own, and the thread pointer left alone.
// Fibers and stacks are recycled and never freed, as the runtime's are (fiber.h, type-stable).
// Who runs them: simulated workers (sim_scheduler.h) and real ones (real_scheduler.h).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "scheduler/fiber.h"

namespace weft::scheduler_test {

struct TestFiber : Fiber {
  std::function<void()> body;
  char* stack = nullptr;
  // Runs off the fiber's stack when the body has returned; must recycle the fiber, last of all.
  void (*ended)(TestFiber& self) = nullptr;
  void* owner = nullptr;
};

// A fiber ready to be unparked for the first time. Any kernel thread.
TestFiber& make_test_fiber(std::function<void()> body, void (*ended)(TestFiber&), void* owner);
// Any kernel thread; the fiber's stack is free.
void recycle_test_fiber(TestFiber& fiber);

// A stack for a context that is not a fiber. Recycled by give_test_stack().
inline constexpr size_t kTestStackBytes = 128 * 1024;
char* take_test_stack();
void give_test_stack(char* stack);

// Sets a fiber's attention and cuts its wait short, as a signal does.
void interrupt(Fiber& fiber);
// Runs on the fiber: takes note of what interrupt() set. True: it was set.
bool take_interrupt();

}  // namespace weft::scheduler_test
