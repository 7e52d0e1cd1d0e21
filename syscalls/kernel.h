// kernel.h - what every call body needs: the kernel itself, times, and the runtime's global state.
// The direction is in the name: sys_read() is a call arriving from the program, kernel(...) one
// going down to Linux.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstdint>

#include "platform/linux/system_call.h"
#include "platform/netpoller.h"
#include "scheduler/scheduler.h"
#include "syscalls/call_frame.h"

namespace weft {

// Whether the current kernel thread may be held by a call: it is a bound fiber's own.
inline bool may_block_here() { return current_worker()->bound; }

// Does the call on the bound fiber's own kernel thread. A signal for the fiber cuts it short.
Result kernel_interruptible(const CallFrame& frame);

// Does the call as it came, whatever waits for the fiber.
inline Result kernel_at_once(const CallFrame& frame) {
  return platform::system_call(
      static_cast<long>(frame.number), static_cast<long>(frame.rdi), static_cast<long>(frame.rsi),
      static_cast<long>(frame.rdx), static_cast<long>(frame.r10), static_cast<long>(frame.r8),
      static_cast<long>(frame.r9));
}

// Does the call as it came.
inline Result kernel(const CallFrame& frame) {
  return may_block_here() ? kernel_interruptible(frame) : kernel_at_once(frame);
}

using platform::address_of;
using platform::system_call;

template <typename T>
T* pointer(uint64_t value) {
  return reinterpret_cast<T*>(value);
}

// struct __kernel_timespec: the layout of timespec on x86-64.
struct KernelTime {
  int64_t seconds;
  int64_t nanoseconds;
};

inline constexpr int64_t kNsPerSecond = 1'000'000'000;

inline bool is_valid(const KernelTime& time) {
  return time.seconds >= 0 && time.nanoseconds >= 0 && time.nanoseconds < kNsPerSecond;
}

// Saturates at kForever, which is 292 years away.
inline int64_t to_ns(const KernelTime& time) {
  if (time.seconds >= platform::kForever / kNsPerSecond) return platform::kForever;
  return time.seconds * kNsPerSecond + time.nanoseconds;
}

inline KernelTime from_ns(int64_t ns) { return {ns / kNsPerSecond, ns % kNsPerSecond}; }

// A deadline on the monotonic clock from a duration; kForever stays.
inline int64_t deadline_after(int64_t duration_ns) {
  if (duration_ns == platform::kForever) return platform::kForever;
  const int64_t now = current_worker()->netpoller->now_ns();
  return duration_ns > platform::kForever - now ? platform::kForever : now + duration_ns;
}

// As deadline_after(), for the time-out of the running call: when the call is done again after an
// interrupt that no handler saw, the deadline stays what it was at first.
int64_t call_deadline(int64_t duration_ns);

// Does the call on a kernel thread of the blocking pool; the fiber is parked. kRestartCall or
// kRestartUnlessHandled if a signal cut it short.
Result off_load(const CallFrame& frame);

// Parks on one operation. Returns its result; -ETIMEDOUT if the deadline ended it without effect;
// kRestartCall if a signal did.
Result complete(const platform::Op& op, int64_t deadline_ns = platform::kForever);

// Parks until one of `events` (poll(2)) is ready on fd. Returns the ready ones, -ETIMEDOUT,
// kRestartCall, or -EBADF and the like.
Result wait_ready(int fd, uint32_t events, int64_t deadline_ns);

}  // namespace weft
