// kernel.cc - the shared handlers and the ways to wait that call bodies are made of (kernel.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/kernel.h"

#include "scheduler/blocking_pool.h"
#include "scheduler/io_wait.h"
#include "syscalls/bound.h"
#include "syscalls/call_table.h"
#include "syscalls/counters.h"

namespace weft {
namespace {

struct CallJob : BlockingJob {
  const CallFrame* frame = nullptr;
  Result result = 0;
};

}  // namespace

Result off_load(const CallFrame& frame) {
  if (may_block_here()) return kernel(frame);
  CallJob job;
  job.frame = &frame;
  job.run = [](BlockingJob& self) {
    auto& call = static_cast<CallJob&>(self);
    call.result = kernel(*call.frame);
  };
  run_blocking(job);
  return job.result;
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
