// call_frame.h - a system call on its way in: the registers as they were at the instruction.
// The gate's assembly builds it on the caller's stack, below the red zone, and restores from it;
// the offsets are static_asserted against the ones that gate.S uses.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft {

// A value, or -errno, as the kernel leaves it in rax.
using Result = long;

struct CallFrame {
  // Arguments in the kernel's order (syscall(2)), then the number.
  uint64_t rdi, rsi, rdx, r10, r8, r9;
  uint64_t number;
  // Callee-saved registers and the stack pointer: for the child of clone and for signal frames.
  uint64_t rbx, rbp, r12, r13, r14, r15;
  uint64_t rsp;
  const void* site;  // preload's descriptor of the place that the call came from
  uint64_t result;   // what rax will be
};
static_assert(offsetof(CallFrame, number) == 48);
static_assert(offsetof(CallFrame, rbx) == 56);
static_assert(offsetof(CallFrame, rbp) == 64);
static_assert(offsetof(CallFrame, r15) == 96);
static_assert(offsetof(CallFrame, rsp) == 104);
static_assert(offsetof(CallFrame, site) == 112);
static_assert(offsetof(CallFrame, result) == 120);
static_assert(sizeof(CallFrame) == 128);

// What the kernel uses inside for "interrupted, to be restarted" (include/linux/errno.h); never
// seen by a program. restart_call: EINTR if a handler without SA_RESTART ran, else done again.
// restart_unless_handled: EINTR if any handler ran, else done again.
inline constexpr Result kRestartCall = -512;
inline constexpr Result kRestartUnlessHandled = -514;
// Not a result: the gate must execute the instruction at the site, with no frame of ours.
inline constexpr Result kExecuteAtSite = -600;

}  // namespace weft
