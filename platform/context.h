// context.h - the contract of the register switch between two stacks.
// Saved on the leaving stack: the callee-saved registers of the System V ABI (rbx rbp r12-r15), the
// x87 control word and mxcsr. Passed in: the FS base (thread pointer) to install.
// NOT saved: caller-saved and vector registers (a switch is a function call; a site that keeps
// vector registers live is saved by save_vector_state() first), the signal mask (kernel threads of
// the runtime all have the same one), GS (it is the worker's), the alternate signal stack.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::platform {

// A stack that is not running: everything else lies on the stack itself.
struct Context {
  void* stack_pointer = nullptr;
};

// Saves the running context in `from` and continues `to`. Returns when somebody switches back.
// `thread_pointer`: the FS base `to` needs; zero leaves it as it is.
extern "C" void weft_context_switch(Context* from, Context* to, uintptr_t thread_pointer);

// Builds a context that calls entry(argument) on an empty stack. entry must not return.
// stack_top: 16-byte aligned end of the stack.
void make_context(Context& context, void* stack_top, void (*entry)(void*), void* argument);

// The vector (SSE, AVX, AVX-512) state of the running context, for calls that may park at sites
// where the program keeps it live. The area is vector_state_bytes() large, 64-byte aligned.
size_t vector_state_bytes();
void save_vector_state(void* area);
void load_vector_state(const void* area);

}  // namespace weft::platform
