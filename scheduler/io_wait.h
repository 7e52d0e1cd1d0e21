// io_wait.h - parking on completions: one operation, or several of which the first ends the wait.
// Guarantee: when park_on() returns, every completion it was given is delivered: the kernel no
// longer knows their memory. A deadline or an interrupt only asks for cancellation; an operation
// that completed all the same keeps its result (completed or cancelled, never both).
// All of an IoWait is handled on the worker that parked: netpoller, timers and mailbox are its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "platform/netpoller.h"
#include "scheduler/fiber.h"

namespace weft {

struct IoWait;

// On the parked fiber's stack.
struct IoCompletion : platform::Completion {
  IoWait* wait = nullptr;
  bool delivered = false;
};

enum class IoOutcome : uint8_t { completed, timed_out, interrupted };

// Submits `count` operations and parks until all are delivered. With several, the first that
// completes asks for the cancellation of the others. deadline_ns: absolute, kForever for none.
// interruptible: signals may cut the wait short; `attention` bits set before count too.
// Returns what ended the wait first. Each completion's own result stands beside it.
IoOutcome park_on(IoCompletion* completions, uint32_t count, int64_t deadline_ns,
                  bool interruptible, WaitReason reason);

// Sleeps until the deadline. Interruptible.
IoOutcome sleep_until(int64_t deadline_ns);

}  // namespace weft
