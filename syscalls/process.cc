// process.cc - clone's other children, exec and waiting for them.
// fork: the child has one kernel thread, a copy of this worker's, on the caller's stack; its runtime
// is dormant (every call passes) until it starts a thread. vfork and posix_spawn: the instruction
// runs at its site, with no frame of ours; the child shares our memory and is passed through.
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/process.h"

#include <linux/sched.h>
#include <linux/wait.h>
#include <sys/syscall.h>

#include "platform/os.h"
#include "scheduler/blocking_pool.h"
#include "scheduler/fiber_stack.h"
#include "syscalls/call_table.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signals.h"
#include "syscalls/thread.h"

namespace weft {
namespace {

constexpr uint64_t kAllSignals = ~uint64_t{0};

Result fork_process(const CallFrame& frame) {
  Thread& thread = current_thread();
  // Nobody else may hold what the child needs whole; no handler may run in between.
  set_kernel_mask(kAllSignals);
  lock_signals_for_fork();
  lock_threads_for_fork();
  stack_slabs_before_fork();
  const Result result = kernel(frame);
  stack_slabs_after_fork();
  unlock_threads_after_fork();
  unlock_signals_after_fork();
  if (result == 0) {
    forget_runtime(thread);
    return_signals(thread);  // real actions and the fiber's mask, in the kernel
  } else {
    set_kernel_mask(worker_signal_mask());
  }
  return result;
}

// A child that shares our memory until it execs: the parent's kernel thread sleeps meanwhile.
Result spawn_at_site() {
  lend_signals_to_kernel(current_thread(), false);
  current_worker()->intercepting = 0;
  return kExecuteAtSite;
}

Result clone(const CallFrame& frame, const CloneRequest& request) {
  if ((request.flags & CLONE_THREAD) != 0) return spawn_thread(frame, request);
  if ((request.flags & CLONE_VM) == 0) {
    if (request.stack_pointer == 0) return fork_process(frame);
    // A copied child on a stack of its own: it starts there, so at the site; what it finds is a
    // copy of a live runtime without its threads.
    return -EINVAL;
  }
  if ((request.flags & CLONE_VFORK) != 0) return spawn_at_site();
  // A process that shares our memory and runs beside us would run our workers' state a second time.
  return -ENOSYS;
}

}  // namespace

Result sys_clone(CallFrame& frame) {
  CloneRequest request;
  request.flags = frame.rdi;
  request.stack_pointer = frame.rsi;
  request.parent_tid = pointer<int>(frame.rdx);
  request.child_tid = pointer<int>(frame.r10);
  request.thread_pointer = frame.r8;
  return clone(frame, request);
}

Result sys_clone3(CallFrame& frame) {
  const auto* arguments = pointer<const clone_args>(frame.rdi);
  // clone3(2): CLONE_ARGS_SIZE_VER0 is 64 bytes.
  if (arguments == nullptr || frame.rsi < 64) return kernel(frame);
  CloneRequest request;
  request.flags = arguments->flags;
  request.stack_pointer = arguments->stack == 0 ? 0 : arguments->stack + arguments->stack_size;
  request.parent_tid = pointer<int>(arguments->parent_tid);
  request.child_tid = pointer<int>(arguments->child_tid);
  request.thread_pointer = arguments->tls;
  return clone(frame, request);
}

Result sys_fork(CallFrame& frame) { return fork_process(frame); }
Result sys_vfork(CallFrame&) { return spawn_at_site(); }

namespace {

// execve(2): the mask and the ignored signals go on to the new program; handlers do not. Claimed
// signals (a handler of ours for a default action) become default by themselves.
Result execute(CallFrame& frame) {
  lend_signals_to_kernel(current_thread(), true);
  return kernel(frame);
}

}  // namespace

Result sys_execve(CallFrame& frame) { return execute(frame); }
Result sys_execveat(CallFrame& frame) { return execute(frame); }

namespace {

// Parks until a child that the ids name changes state, without reaping it.
Result wait_for_child(int type, int id, uint64_t options) {
  if (!current_worker()->netpoller->supports(platform::OpKind::wait_id)) return -ENOSYS;
  platform::Op op;
  op.kind = platform::OpKind::wait_id;
  op.fd = id;
  op.length = static_cast<uint32_t>(type);
  op.op_flags = static_cast<uint32_t>(options) | WNOWAIT;
  return complete(op);
}

}  // namespace

Result sys_wait4(CallFrame& frame) {
  if ((frame.rdx & WNOHANG) != 0 || may_block_here()) return kernel(frame);
  const auto id = static_cast<int>(frame.rdi);
  int type = P_PID;
  int group = id;
  if (id == -1) {
    type = P_ALL;
    group = 0;
  } else if (id == 0) {
    type = P_PGID;
  } else if (id < -1) {
    if (id == INT32_MIN) return -ESRCH;  // wait4(2): its negation is no group
    type = P_PGID;
    group = -id;
  }
  CallFrame ask = frame;
  ask.rdx |= WNOHANG;
  for (;;) {
    const Result result = kernel(ask);
    if (result != 0) return result;
    const Result waited = wait_for_child(type, group, frame.rdx | WEXITED);
    if (waited == -ENOSYS || waited == -EINVAL) return off_load(frame);
    // -ECHILD: another thread reaped it; the kernel says so itself.
    if (waited < 0 && waited != -ECHILD) return waited;
  }
}

Result sys_waitid(CallFrame& frame) {
  if ((frame.r10 & WNOHANG) != 0 || may_block_here()) return kernel(frame);
  struct Info {
    int32_t number;
    int32_t words[31];
  } probe;
  CallFrame ask = frame;
  for (;;) {
    // A zero signal number tells that nothing was there (waitid(2)).
    ask.r10 = frame.r10 | WNOHANG | WNOWAIT;
    ask.rdx = reinterpret_cast<uintptr_t>(&probe);
    ask.r8 = 0;
    probe.number = 0;
    Result result = kernel(ask);
    if (result < 0) return result;
    if (probe.number != 0) {
      ask = frame;
      ask.r10 |= WNOHANG;
      // Another thread may reap it between the two; then the siginfo says "nothing" again.
      if (auto* info = pointer<Info>(frame.rdx); info != nullptr) {
        result = kernel(ask);
        if (result < 0 || info->number != 0) return result;
      } else {
        return kernel(ask);
      }
    }
    const Result waited = wait_for_child(static_cast<int>(frame.rdi), static_cast<int>(frame.rsi),
                                         frame.r10);
    if (waited == -ENOSYS || waited == -EINVAL) return off_load(frame);
    if (waited < 0 && waited != -ECHILD) return waited;
  }
}

}  // namespace weft
