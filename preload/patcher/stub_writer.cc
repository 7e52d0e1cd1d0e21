// stub_writer.cc - emits stubs and relocates the instructions of a window.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/stub_writer.h"

#include "preload/patcher/memory.h"
#include "preload/patcher/window_planner.h"

namespace weft::preload {
namespace {

constexpr size_t kStubAlignment = 16;

}  // namespace

StubWriter::StubWriter(std::span<uint8_t> buffer, uintptr_t address, uintptr_t gate)
    : buffer_(buffer), address_(address), gate_(gate) {
  put_bytes(reinterpret_cast<const uint8_t*>(&gate_), sizeof gate_);
}

void StubWriter::put_bytes(const uint8_t* bytes, size_t count) {
  if (count > buffer_.size() - used_) {
    valid_ = false;
    return;
  }
  __builtin_memcpy(buffer_.data() + used_, bytes, count);
  used_ += count;
}

void StubWriter::put(std::initializer_list<uint8_t> bytes) {
  put_bytes(bytes.begin(), bytes.size());
}

void StubWriter::put_offset_to(uintptr_t target) {
  const auto offset = static_cast<intptr_t>(target - (here() + 4));
  const auto field = static_cast<int32_t>(offset);
  valid_ = valid_ && field == offset;
  put_bytes(reinterpret_cast<const uint8_t*>(&field), sizeof field);
}

void StubWriter::put_gate_jump() {
  const auto offset = static_cast<intptr_t>(gate_ - (here() + kJumpBytes));
  if (offset == static_cast<int32_t>(offset)) {
    put({0xe9});
    put_offset_to(gate_);
  } else {
    put({0xff, 0x25});
    put_offset_to(address_);
  }
}

// Relocates the window's bytes [begin, end). `ended`: control leaves in them for good.
bool StubWriter::put_window(const SitePlan& plan, uintptr_t window, size_t begin, size_t end,
                            bool& ended) {
  ended = false;
  for (size_t at = begin; at < end && !ended;) {
    const uint8_t* const code = plan.original + at;
    Instruction instruction;
    if (!decode(code, plan.checked_bytes - at, instruction)) return false;
    const uintptr_t target = branch_target(window + at, instruction);
    switch (relocation_of(code, instruction)) {
      case Relocation::none:
        return false;
      case Relocation::last_ret:
        ended = true;
        [[fallthrough]];
      case Relocation::copy:
        put_bytes(code, instruction.length);
        break;
      case Relocation::rip: {
        // Whatever follows the displacement in the instruction is counted by the processor too.
        const size_t after = instruction.displacement_at + size_t{4};
        const auto displacement = intptr_t{load_int32(code + instruction.displacement_at)};
        const uintptr_t operand =
            window + at + instruction.length + static_cast<uintptr_t>(displacement);
        put_bytes(code, instruction.displacement_at);
        put_offset_to(operand - (instruction.length - after));
        put_bytes(code + after, instruction.length - after);
        break;
      }
      case Relocation::widen_jcc:
        put({0x0f, static_cast<uint8_t>(0x80 | (instruction.opcode & 0x0f))});
        put_offset_to(target);
        break;
      case Relocation::last_jump:
        put({0xe9});
        put_offset_to(target);
        ended = true;
        break;
    }
    at += instruction.length;
  }
  return true;
}

bool StubWriter::write(const SitePlan& plan, uintptr_t window, uintptr_t site, StubPlace& out) {
  while (used_ % kStubAlignment != 0 && valid_) put({0xcc});
  out.stub = here();
  bool ended = false;
  if (!put_window(plan, window, 0, plan.syscall_at, ended) || ended) return false;
  put({0x49, 0xbb});  // movabs $site, %r11
  put_bytes(reinterpret_cast<const uint8_t*>(&site), sizeof site);
  put_gate_jump();

  out.inline_call = here();
  put({0x0f, 0x05,                                              // syscall
       0x48, 0x89, 0xc1,                                        // mov %rax, %rcx
       0xe3, 0x09,                                              // jrcxz over the next one
       0x65, 0xc6, 0x04, 0x25, 0x10, 0x00, 0x00, 0x00, 0x01});  // movb $1, %gs:16
  const uintptr_t after_syscall = window + plan.syscall_at + kSyscallBytes;
  out.resume = plan.has_tail() ? here() : after_syscall;
  if (plan.has_tail() &&
      !put_window(plan, window, plan.syscall_at + kSyscallBytes, plan.window_bytes, ended)) {
    return false;
  }
  if (!ended) {
    put({0xe9});
    put_offset_to(plan.has_tail() ? window + plan.window_bytes : after_syscall);
  }
  return valid_;
}

}  // namespace weft::preload
