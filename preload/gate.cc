// gate.cc - dispatch, restart after signals, vector state, and the two kinds of children that are
// passed through (gate.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/gate.h"

#include <linux/sched.h>
#include <sys/syscall.h>

#include "platform/context.h"
#include "preload/patcher/patcher.h"
#include "scheduler/scheduler.h"
#include "syscalls/call_table.h"
#include "syscalls/counters.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signals.h"

namespace weft {
namespace {

static_assert(offsetof(Fiber, attention) == 24, "gate.S");

bool makes_thread(const CallFrame& frame) {
  if (frame.number == SYS_clone) return (frame.rdi & CLONE_THREAD) != 0;
  if (frame.number != SYS_clone3) return false;
  const auto* arguments = pointer<const clone_args>(frame.rdi);
  return arguments != nullptr && (arguments->flags & CLONE_THREAD) != 0;
}

// Children that start on a stack of their own or share ours, and the return from a signal frame,
// must happen where the program is, not in a frame of ours.
bool belongs_to_site(const CallFrame& frame) {
  switch (frame.number) {
    case SYS_vfork:
    case SYS_rt_sigreturn:
      return true;
    case SYS_clone:
      return (frame.rdi & CLONE_VM) != 0 || frame.rsi != 0;
    case SYS_clone3: {
      const auto* arguments = pointer<const clone_args>(frame.rdi);
      return arguments != nullptr && ((arguments->flags & CLONE_VM) != 0 || arguments->stack != 0);
    }
    default:
      return false;
  }
}

// Two cases, told apart by `live`: the child of a fork, whose runtime is dormant until it starts a
// thread; and a child that shares our memory until it execs, which must not touch our state.
GateAnswer pass_through(CallFrame& frame) {
  if (!g_runtime.live && makes_thread(frame) && g_runtime.hooks.restart()) {
    return weft_gate(&frame);
  }
  if (belongs_to_site(frame)) return {0, 1};
  return {kernel_at_once(frame), 0};
}

// vectors: where call_saving_vectors() put them, or null.
Result call(const CallInfo& info, CallFrame& frame, void* vectors) {
  Thread& thread = current_thread();
  thread.kept_deadline_ns = 0;
  for (;;) {
    thread.call_frame = &frame;
    thread.saved_vectors = vectors;
    const Result result = info.handler(frame);
    thread.call_frame = nullptr;
    if (result != kRestartCall && result != kRestartUnlessHandled) return result;
    frame.result = static_cast<uint64_t>(-EINTR);
    const Delivered delivered = deliver_signals(frame);
    const bool interrupted = result == kRestartCall ? delivered.without_restart : delivered.any;
    if (interrupted) return -EINTR;
  }
}

// For sites where the program may keep vector registers live: the area is on the fiber's stack.
[[gnu::noinline]] Result call_saving_vectors(const CallInfo& info, CallFrame& frame) {
  const size_t bytes = platform::vector_state_bytes();
  void* memory = __builtin_alloca_with_align(bytes, 64 * 8);
  platform::save_vector_state(memory);
  const Result result = call(info, frame, memory);
  platform::load_vector_state(memory);
  return result;
}

// A vfork or a failed exec lent this kernel thread the fiber's signal mask. The worker takes its own
// back before the fiber can leave it: with the other it would hear neither signals nor preemption.
void take_back_mask() {
  Fiber& fiber = *current_fiber();
  // Relaxed, here and below: set by the fiber itself, on this worker.
  if ((fiber.attention.load(std::memory_order_relaxed) & kAttentionKernelMask) == 0) return;
  fiber.attention.fetch_and(~kAttentionKernelMask, std::memory_order_relaxed);
  apply_worker_mask();
}

}  // namespace

GateAnswer weft_gate(CallFrame* frame) {
  if (current_worker()->intercepting == 0 || !g_runtime.live) return pass_through(*frame);
  take_back_mask();
  const CallInfo& info = call_info(frame->number);
  if (g_runtime.options.stats) {
    g_call_counters.by_disposition[static_cast<unsigned>(info.disposition)].fetch_add(
        1, std::memory_order_relaxed);
  }
  const auto& site = *static_cast<const preload::Site*>(frame->site);
  const bool save = (site.flags & preload::kSiteSavesVector) != 0 &&
                    info.disposition != Disposition::pass;
  const Result result = save ? call_saving_vectors(info, *frame) : call(info, *frame, nullptr);
  return {result, result == kExecuteAtSite ? uint64_t{1} : uint64_t{0}};
}

Result weft_gate_attention(CallFrame* frame) {
  take_back_mask();
  Fiber& fiber = *current_fiber();
  // Relaxed: a note to ourselves by whoever wants us to make room.
  if ((fiber.attention.load(std::memory_order_relaxed) & kAttentionPreempt) != 0) yield();
  deliver_signals(*frame);
  return static_cast<Result>(frame->result);
}

Result weft_gate_abandoned(CallFrame*) {
  Thread& thread = current_thread();
  thread.call_frame = nullptr;
  restore_mask_after_wait(thread);
  if (thread.saved_vectors != nullptr) platform::load_vector_state(thread.saved_vectors);
  return -EFAULT;
}

void abandon_call(CallFrame* frame, uint64_t& rip, uint64_t& rsp, uint64_t& rbp) {
  rip = reinterpret_cast<uint64_t>(weft_gate_abandon);
  rsp = reinterpret_cast<uint64_t>(frame);
  rbp = frame->rsp - 144;
}

}  // namespace weft
