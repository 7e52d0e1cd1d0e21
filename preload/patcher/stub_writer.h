// stub_writer.h - the machine code of a stub.
//   stub:         the window's instructions before the syscall, relocated
//                 movabs $site, %r11
//                 jmp gate
//   inline_call:  syscall
//                 mov %rax, %rcx ; jrcxz 1f ; movb $1, %gs:16 ; 1:
//   tail:         the window's instructions after the syscall, relocated
//                 jmp back
// The gate returns to `resume`: the tail if there is one, else the original text. inline_call runs
// with no frame of ours below it; in a vfork or clone child (0 in rax) interception stays off, in
// the parent the byte at %gs:16 (the worker's `intercepting`) switches it on again. Everything but
// rax, rcx and r11 is preserved, flags too: hence JRCXZ.
// Needs no frame description: nothing in a stub moves the stack pointer but the window's own
// instructions, and unwinders see Site::pc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "preload/patcher/site_plan.h"

namespace weft::preload {

struct StubPlace {
  uintptr_t stub;
  uintptr_t inline_call;
  uintptr_t resume;
};

// Upper bound of one stub: a window of 22 bytes whose branches all widen (2 to 6 bytes), the fixed
// 42 bytes, the jump back, and the alignment of the next stub.
inline constexpr size_t kStubBytesMax = 160;

class StubWriter {
 public:
  // Code is built in `buffer` and will run at `address`. The first 8 bytes hold the gate's address,
  // for a gate beyond the reach of a direct jump.
  StubWriter(std::span<uint8_t> buffer, uintptr_t address, uintptr_t gate);

  // window: where the plan's window is in memory. False: something is out of reach or too long.
  bool write(const SitePlan& plan, uintptr_t window, uintptr_t site, StubPlace& out);
  // Bytes of the buffer in use.
  size_t used() const { return used_; }

 private:
  void put(std::initializer_list<uint8_t> bytes);
  void put_bytes(const uint8_t* bytes, size_t count);
  void put_offset_to(uintptr_t target);  // 4 bytes, relative to their end
  bool put_window(const SitePlan& plan, uintptr_t window, size_t begin, size_t end, bool& ended);
  void put_gate_jump();
  uintptr_t here() const { return address_ + used_; }

  std::span<uint8_t> buffer_;
  uintptr_t address_;
  uintptr_t gate_;
  size_t used_ = 0;
  bool valid_ = true;
};

}  // namespace weft::preload
