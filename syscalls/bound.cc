// bound.cc - moving a fiber to its own kernel thread (bound.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/bound.h"

#include "syscalls/kernel.h"
#include "syscalls/runtime.h"

namespace weft {

void bind_current_fiber() {
  Fiber& fiber = *current_fiber();
  if (fiber.bound) return;
  Worker* worker = start_bound_worker();
  if (worker == nullptr) return;
  struct Move {
    Fiber* fiber;
    Worker* target;
  } move{&fiber, worker};
  fiber.state = FiberState::ready;
  fiber.reason = WaitReason::bind;
  Worker::leave(
      fiber, false,
      [](void* argument) {
        // Off the fiber's stack; `move` lies on it, so it is read before the fiber can run.
        const Move here = *static_cast<Move*>(argument);
        here.fiber->bound = true;
        here.fiber->home = here.target;
        g_runtime.scheduler.unpark(*here.fiber);
      },
      &move);
}

}  // namespace weft
