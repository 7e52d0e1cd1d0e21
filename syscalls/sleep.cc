// sleep.cc - nanosleep, clock_nanosleep and sched_yield.
// SPDX-License-Identifier: Apache-2.0
#include <time.h>

#include "platform/os.h"
#include "scheduler/io_wait.h"
#include "syscalls/call_table.h"
#include "syscalls/kernel.h"

namespace weft {
namespace {

using platform::kForever;

// Clocks whose time passes with the monotonic one; the CPU-time clocks do not.
bool is_wall_clock(int clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
      return true;
    default:
      return false;
  }
}

Result sleep_for(const KernelTime& request, KernelTime* remaining) {
  if (to_ns(request) == 0) return 0;
  const int64_t deadline = call_deadline(to_ns(request));
  if (sleep_until(deadline) != IoOutcome::interrupted) return 0;
  const int64_t left = deadline - current_worker()->netpoller->now_ns();
  if (left <= 0) return 0;
  // nanosleep(2): EINTR with the time left, even if the handler had SA_RESTART (signal(7)); without
  // a handler the sleep goes on to the same deadline.
  if (remaining != nullptr) *remaining = from_ns(left);
  return kRestartUnlessHandled;
}

Result sleep_until_clock(int clock, const KernelTime& until) {
  const int64_t target = to_ns(until);
  for (;;) {
    // Looked at again after each sleep: the clock may have been set meanwhile.
    const int64_t left = target == kForever ? kForever : target - platform::clock_ns(clock);
    if (left <= 0) return 0;
    // clock_nanosleep(2): an absolute sleep that a handler interrupted is EINTR; otherwise it is
    // done again.
    if (sleep_until(deadline_after(left)) == IoOutcome::interrupted) return kRestartUnlessHandled;
  }
}

}  // namespace

Result sys_nanosleep(CallFrame& frame) {
  const auto* request = pointer<const KernelTime>(frame.rdi);
  if (request == nullptr) return -EFAULT;
  if (!is_valid(*request)) return -EINVAL;
  return sleep_for(*request, pointer<KernelTime>(frame.rsi));
}

Result sys_clock_nanosleep(CallFrame& frame) {
  const auto clock = static_cast<int>(frame.rdi);
  const auto* request = pointer<const KernelTime>(frame.rdx);
  if (request == nullptr) return -EFAULT;
  if (!is_wall_clock(clock)) return off_load(frame);
  if (!is_valid(*request)) return -EINVAL;
  if ((frame.rsi & TIMER_ABSTIME) != 0) return sleep_until_clock(clock, *request);
  return sleep_for(*request, pointer<KernelTime>(frame.r10));
}

Result sys_sched_yield(CallFrame&) {
  yield();
  return 0;
}

}  // namespace weft
