// signal_frame.cc - choosing a handler's stack, and copying a frame to it (signal_frame.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/signal_frame.h"

namespace weft {
namespace {

// The x86-64 ABI's area below the stack pointer that belongs to the running function.
constexpr uint64_t kRedZoneBytes = 128;

// How much of the FPU state lies in the frame: fpx_sw_bytes in the unused end of the FXSAVE image
// (arch/x86/include/uapi/asm/sigcontext.h); without its magic number it is the image alone.
uint64_t fpu_state_bytes(uint64_t state) {
  if (state == 0) return 0;
  constexpr uint32_t kMagic = 0x46505853;  // FP_XSTATE_MAGIC1
  const auto* software = reinterpret_cast<const uint32_t*>(state + 464);
  return software[0] == kMagic ? software[1] : 512;
}

void copy(uint64_t target, uint64_t source, uint64_t bytes) {
  asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(bytes) : : "memory");
}

}  // namespace

bool stack_holds(const AlternateStack& stack, uint64_t sp) {
  const auto bottom = reinterpret_cast<uint64_t>(stack.pointer);
  return (stack.flags & kStackDisable) == 0 && sp > bottom && sp - bottom <= stack.bytes;
}

bool on_alternate_stack(const Thread& thread, uint64_t sp) {
  const AlternateStack& stack = thread.alternate_stack;
  return (stack.flags & kStackAutoDisarm) == 0 && stack_holds(stack, sp);
}

uint64_t handler_stack_top(const Thread& thread, uint64_t action_flags, uint64_t sp) {
  constexpr uint64_t kOnStack = 0x08000000;  // SA_ONSTACK
  const AlternateStack& stack = thread.alternate_stack;
  if ((action_flags & kOnStack) != 0 && (stack.flags & kStackDisable) == 0 &&
      !on_alternate_stack(thread, sp)) {
    return reinterpret_cast<uint64_t>(stack.pointer) + stack.bytes;
  }
  return sp - kRedZoneBytes;
}

SignalFrame* copy_signal_frame(const SignalFrame& source, uint64_t top) {
  const uint64_t state = source.context.fpu_state;
  const uint64_t state_bytes = fpu_state_bytes(state);
  // XRSTOR wants 64-byte alignment; a function's entry wants rsp + 8 to be a multiple of 16.
  const uint64_t state_copy = (top - state_bytes) & ~uint64_t{63};
  const uint64_t target = ((state_copy - sizeof(SignalFrame)) & ~uint64_t{15}) - 8;
  copy(state_copy, state, state_bytes);
  copy(target, reinterpret_cast<uint64_t>(&source), sizeof source);
  auto* frame = reinterpret_cast<SignalFrame*>(target);
  if (state != 0) frame->context.fpu_state = state_copy;
  return frame;
}

}  // namespace weft
