// bound.cc - moving a fiber to its own kernel thread (bound.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/bound.h"

#include <sys/syscall.h>

#include "platform/linux/netpoller_uring.h"
#include "platform/os.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/thread.h"

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
  // On the new kernel thread: the nice value that was recorded so far is this one's to have.
  const int nice = static_cast<Thread&>(fiber).nice;
  if (nice != 0) system_call(SYS_setpriority, 0, 0, nice);
}

void end_bound_worker() {
  auto& netpoller = static_cast<platform::UringNetpoller&>(*current_worker()->netpoller);
  // A cancelled operation may still owe its completion, which lies in memory of its own.
  if (netpoller.in_flight() == 0) netpoller.stop();
  platform::exit_kernel_thread();
}

}  // namespace weft
