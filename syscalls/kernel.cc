// kernel.cc - the shared handlers and the ways to wait that call bodies are made of (kernel.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/kernel.h"

#include <sys/syscall.h>

#include "scheduler/blocking_pool.h"
#include "scheduler/io_wait.h"
#include "syscalls/bound.h"
#include "syscalls/call_table.h"
#include "syscalls/counters.h"
#include "syscalls/thread.h"
#include "syscalls/user_memory.h"

namespace weft {
namespace {

struct CallJob : BlockingJob {
  const CallFrame* frame = nullptr;
  Result result = 0;
};

// signal(7): of the calls that come here, those that a handler interrupts whatever its flags.
bool is_never_restarted(uint64_t number) {
  switch (number) {
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_msgsnd:
    case SYS_msgrcv:
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_clock_nanosleep:
    case SYS_io_getevents:
    case SYS_io_pgetevents:
      return true;
    default:
      return false;
  }
}

// A call that waits in the kernel, on a kernel thread that runs nothing else meanwhile.
//   the waiting side                           who has a signal for the fiber (notify_thread)
//   1 blocking_tid = this kernel thread        1 sets kAttentionSignal
//   2 full barrier                             2 full barrier
//   3 looks at attention, then enters          3 reads blocking_tid; if set, pokes that thread: it
//                                                gives up between 3 and the end of the wait
// So a signal is seen at 3, or its poke finds the thread after 1 and cuts the call short. A poke
// that comes too late for its call does no harm: the next one is done again.
Result wait_in_kernel(const CallFrame& frame, Thread& thread, int kernel_tid) {
  thread.blocking_tid.store(kernel_tid, std::memory_order_seq_cst);  // 1, 2
  const Result result = weft_interruptible_call(&frame, &thread.attention);
  thread.blocking_tid.store(0, std::memory_order_relaxed);
  // Those that no SA_RESTART restarts end so; whether a handler ran is not known yet.
  if (result == -EINTR) return kRestartUnlessHandled;
  if (result == kRestartCall && is_never_restarted(frame.number)) return kRestartUnlessHandled;
  return result;
}

void take_pokes() {
  const uint64_t urgent = uint64_t{1} << (23 - 1);  // SIGURG
  system_call(SYS_rt_sigprocmask, 1 /* SIG_UNBLOCK */, address_of(&urgent), 0, 8);
}

}  // namespace

Result kernel_interruptible(const CallFrame& frame) {
  return wait_in_kernel(frame, current_thread(), current_worker()->kernel_tid);
}

Result off_load(const CallFrame& frame) {
  if (may_block_here()) return kernel(frame);
  CallJob job;
  job.frame = &frame;
  job.run = [](BlockingJob& self) {
    auto& call = static_cast<CallJob&>(self);
    // Pool threads start with every signal blocked.
    take_pokes();
    call.result = wait_in_kernel(*call.frame, static_cast<Thread&>(*call.fiber),
                                 static_cast<int>(platform::kernel_thread_id()));
  };
  run_blocking(job);
  return job.result;
}

int64_t call_deadline(int64_t duration_ns) {
  int64_t& kept = current_thread().kept_deadline_ns;
  if (kept == 0) kept = deadline_after(duration_ns);
  return kept;
}

Result complete(const platform::Op& op, int64_t deadline_ns) {
  IoCompletion completion;
  for (;;) {
    completion.op = op;
    const IoOutcome outcome = park_on(&completion, 1, deadline_ns, true, WaitReason::io);
    if (completion.result != -ECANCELED) return static_cast<Result>(completion.result);
    if (outcome == IoOutcome::timed_out) return -ETIMEDOUT;
    if (outcome == IoOutcome::interrupted) return kRestartCall;
    // Cancelled by nobody who still waits: a message of an interrupt that came too late for the
    // wait it meant. No effect, so once more.
  }
}

Result wait_ready(int fd, uint32_t events, int64_t deadline_ns) {
  platform::Op op;
  op.kind = platform::OpKind::poll;
  op.fd = fd;
  op.op_flags = events;
  return complete(op, deadline_ns);
}

Result pass(CallFrame& frame) { return kernel(frame); }

Result pass_unknown(CallFrame& frame) {
  count_unknown_call(frame.number);
  return kernel(frame);
}

Result offload(CallFrame& frame) { return off_load(frame); }

Result bind(CallFrame& frame) {
  bind_current_fiber();
  return kernel(frame);
}

}  // namespace weft
