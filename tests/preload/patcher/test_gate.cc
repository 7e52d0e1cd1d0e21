// test_gate.cc - performs every call as it came; vfork and clone inline in the stub.
// Built like guest code: it runs inside libc's system calls when libc is patched.
// SPDX-License-Identifier: Apache-2.0
#include "test_gate.h"

#include <asm/prctl.h>
#include <sys/syscall.h>

#include "platform/linux/system_call.h"

namespace weft::preload::test {

GateCounts gate_counts;
WorkerBlock worker_block;

bool point_gs_at_worker_block() {
  return platform::system_call(SYS_arch_prctl, ARCH_SET_GS, platform::address_of(&worker_block)) ==
         0;
}

// Returns 1 to execute the call inline, else leaves the result in the frame.
extern "C" long test_gate_decide(GateFrame* frame) {
  const auto number = static_cast<long>(frame->rax);
  // Relaxed: counters, read when all is done.
  gate_counts.entries.fetch_add(1, std::memory_order_relaxed);
  gate_counts.last_site.store(frame->site, std::memory_order_relaxed);
  if (frame->site->number >= 0 && frame->site->number != number) {
    gate_counts.wrong_number.fetch_add(1, std::memory_order_relaxed);
  }
  if (number == SYS_vfork || number == SYS_clone || number == SYS_clone3) {
    gate_counts.inline_calls.fetch_add(1, std::memory_order_relaxed);
    return 1;
  }
  frame->rax = static_cast<uint64_t>(
      platform::system_call(number, static_cast<long>(frame->rdi), static_cast<long>(frame->rsi),
                            static_cast<long>(frame->rdx), static_cast<long>(frame->r10),
                            static_cast<long>(frame->r8), static_cast<long>(frame->r9)));
  return 0;
}

}  // namespace weft::preload::test
