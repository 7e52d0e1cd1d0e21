// signal_fault.cc - faults: the program's go to its handler or its end, as natively; one that a call
// body meets on a pointer of the program's becomes EFAULT; any other in the runtime ends the process
// with a line that says so.
// The master handler calls this on its worker's signal stack, with every signal blocked.
// SPDX-License-Identifier: Apache-2.0
#include <sys/syscall.h>

#include "scheduler/scheduler.h"
#include "scheduler/text.h"
#include "syscalls/kernel.h"
#include "syscalls/process.h"
#include "syscalls/runtime.h"
#include "syscalls/signal_state.h"
#include "syscalls/user_memory.h"

extern "C" {
// The library's text; the linker defines these.
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));
extern const char weft_user_access_begin[] __attribute__((visibility("hidden")));
extern const char weft_user_access_end[] __attribute__((visibility("hidden")));
extern const char weft_user_access_failed[] __attribute__((visibility("hidden")));
extern const char weft_interruptible_begin[] __attribute__((visibility("hidden")));
extern const char weft_interruptible_end[] __attribute__((visibility("hidden")));
extern const char weft_interruptible_cut[] __attribute__((visibility("hidden")));
}

namespace weft {
namespace {

bool lies_between(uintptr_t pc, const char* begin, const char* end) {
  return pc >= reinterpret_cast<uintptr_t>(begin) && pc < reinterpret_cast<uintptr_t>(end);
}

// si_addr.
uint64_t fault_address(const SignalInfo& info) { return info.rest[0]; }

// The runtime works on the fiber's stack. An access around the stack pointer that faults is the end
// of that stack, not a pointer that the program passed.
bool is_end_of_stack(const SignalInfo& info, const UserContext& context) {
  constexpr uint64_t kBelow = 64 * 1024;
  constexpr uint64_t kAbove = 256;
  return fault_address(info) >= context.rsp - kBelow &&
         fault_address(info) < context.rsp + kAbove;
}

// Makes the context go on in the gate, whose frame lies where it was when the body was called.
bool abandon_call(Thread& thread, const SignalInfo& info, UserContext& context) {
  CallFrame* frame = thread.call_frame;
  if (frame == nullptr || g_runtime.hooks.abandon_call == nullptr) return false;
  if (info.number != kSigSegv && info.number != kSigBus) return false;
  if (!lies_between(context.rip, __ehdr_start, etext) || is_end_of_stack(info, context)) {
    return false;
  }
  g_runtime.hooks.abandon_call(frame, context.rip, context.rsp, context.rbp);
  return true;
}

void say_runtime_fault(const SignalInfo& info, const UserContext& context) {
  Text<384> line;
  if (is_end_of_stack(info, context)) {
    line.append("weft: a thread's stack ended inside a system call (signal ");
    line.append_number(info.number).append(" at ").append_hex(fault_address(info));
    line.append("): the runtime needs about 16 KiB of it; give the thread a larger stack\n");
  } else {
    line.append("weft: the runtime itself faulted: signal ").append_number(info.number);
    line.append(" at ").append_hex(context.rip).append(" (libweft.so+");
    line.append_hex(context.rip - reinterpret_cast<uintptr_t>(__ehdr_start));
    line.append("), address ").append_hex(fault_address(info));
    line.append(": please report it; WEFT=0 runs the program natively\n");
  }
  line.write_error();
}

// The default action: the instruction faults again, and the kernel ends the process with the core
// and the status that it natively has. Where the program counter is past the instruction, the signal
// itself waits for the return from the handler.
void die_by_default(Worker& worker, SignalInfo& info, UserContext& context) {
  set_default_in_kernel(info.number);
  context.signal_mask &= ~signal_bit(info.number);
  if (info.number != kSigTrap && info.number != kSigSys) return;
  system_call(SYS_rt_tgsigqueueinfo, g_runtime.process_id, worker.kernel_tid, info.number,
              address_of(&info));
}

}  // namespace

uintptr_t after_user_fault(uintptr_t pc) {
  if (!lies_between(pc, weft_user_access_begin, weft_user_access_end)) return 0;
  return reinterpret_cast<uintptr_t>(weft_user_access_failed);
}

uintptr_t after_cut(uintptr_t pc) {
  if (!lies_between(pc, weft_interruptible_begin, weft_interruptible_end)) return 0;
  return reinterpret_cast<uintptr_t>(weft_interruptible_cut);
}

bool is_fault(const SignalInfo& info) {
  if (info.code <= 0) return false;
  return info.number == kSigSegv || info.number == kSigBus || info.number == kSigFpe ||
         info.number == kSigIll || info.number == kSigTrap || info.number == kSigSys;
}

void on_fault(Worker& worker, SignalInfo& info, UserContext& context) {
  if (const uintptr_t next = after_user_fault(context.rip); next != 0) {
    context.rip = next;
    return;
  }
  auto* thread = static_cast<Thread*>(worker.running);
  if (worker.in_runtime != 0 || thread == nullptr) {
    if (thread != nullptr && abandon_call(*thread, info, context)) return;
    say_runtime_fault(info, context);
    die_by_default(worker, info, context);
    return;
  }
  const SignalAction action = action_of(info.number);
  const bool handled = action.handler != kActionDefault && action.handler != kActionIgnore;
  const bool blocked =
      (thread->signal_mask.load(std::memory_order_relaxed) & signal_bit(info.number)) != 0;
  // signal(7): without a handler, or blocked, the default whatever was asked for.
  if (!handled || blocked) {
    release_robust_locks_of_all();
    die_by_default(worker, info, context);
    return;
  }
  deliver_on_stack(worker, context, handler_stack_top(*thread, action.flags, context.rsp), true);
}

}  // namespace weft
