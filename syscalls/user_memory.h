// user_memory.h - touching the program's memory where a fault must be an answer, and system calls
// that a signal can cut short.
// A call body may read and write through the program's pointers as they are: a fault there abandons
// the body, and the call answers EFAULT (signal_fault.cc). These functions are for places that must
// not be abandoned: a lock is held, or something was done already.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "syscalls/call_frame.h"

namespace weft {

// All answer 0 or -EFAULT; after a fault the outputs are as they were.
extern "C" long weft_user_load32(const volatile void* source, uint32_t* value);
extern "C" long weft_user_load64(const volatile void* source, uint64_t* value);
// found: what the word held; it was exchanged if that is `expected`. A full barrier.
extern "C" long weft_user_compare_exchange32(volatile void* word, uint32_t expected,
                                             uint32_t desired, uint32_t* found);
// A fault leaves a part of the target written.
extern "C" long weft_user_copy(void* target, const void* source, size_t bytes);

// The kernel's answer, or kRestartCall if kAttentionSignal stands in `attention` before the call has
// done anything: whoever sets it then sends a signal to this kernel thread.
extern "C" Result weft_interruptible_call(const CallFrame* frame,
                                          const std::atomic<uint32_t>* attention);

// Where the program counter must go after a fault at `pc`, or 0: not one of ours.
uintptr_t after_user_fault(uintptr_t pc);
// Where it must go for a signal at `pc` to cut a call short, or 0.
uintptr_t after_cut(uintptr_t pc);

}  // namespace weft
