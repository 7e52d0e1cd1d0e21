// decoder.h - how long an x86-64 instruction is, where it may jump, and where its RIP displacement
// stands. That is all a patcher has to know of an instruction; operands are not decoded.
// Guarantee: never reads past `available` bytes nor past 15; what is accepted has the length that
// the processor gives it. Undefined opcodes of the legacy maps are refused; in the vector maps
// (VEX, EVEX, XOP) the length does not depend on whether an opcode is defined.
// No state, no system call, no libc: runs anywhere.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::preload {

enum class InstructionKind : uint8_t {
  plain,
  jump,           // unconditional, target known
  conditional,    // Jcc, LOOPcc, JrCXZ, XBEGIN
  call,           // target known
  indirect_jump,  // target in a register or in memory, far jumps too
  indirect_call,
  ret,   // RET, IRET, SYSRET, SYSEXIT
  trap,  // UD0..2, HLT, INT1, INT3: nothing that belongs to the function follows for sure
  system_call,
};

enum class OpcodeMap : uint8_t { one_byte, map_0f, map_0f38, map_0f3a, vector };

struct Instruction {
  uint8_t length;
  InstructionKind kind;
  OpcodeMap map;
  uint8_t opcode;
  uint8_t modrm;
  uint8_t prefix_bytes;     // legacy and REX prefixes before the opcode
  uint8_t displacement_at;  // offset of the 4-byte RIP displacement, 0 = not RIP-relative
  bool operand_size_prefix;
  bool address_size_prefix;
  bool rex_w;
  // A near branch with a 66 prefix: AMD reads a 16-bit offset, Intel ignores the prefix. Length and
  // target are Intel's; whoever wants a proof refuses the instruction.
  bool vendor_dependent;
  bool has_target;
  int32_t target_offset;  // from the end of the instruction

  bool rip_relative() const { return displacement_at != 0; }
  // Control never continues at the next instruction.
  bool ends_flow() const {
    return kind == InstructionKind::jump || kind == InstructionKind::indirect_jump ||
           kind == InstructionKind::ret || kind == InstructionKind::trap;
  }
};

// Decodes one instruction. False: truncated, longer than 15 bytes or undefined.
bool decode(const uint8_t* code, size_t available, Instruction& out);

// Where a direct branch at `address` goes; only with has_target.
inline uintptr_t branch_target(uintptr_t address, const Instruction& instruction) {
  return address + instruction.length +
         static_cast<uintptr_t>(static_cast<intptr_t>(instruction.target_offset));
}

// The signed 4 bytes at `from`, at any alignment.
inline int32_t load_int32(const uint8_t* from) {
  int32_t value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace weft::preload
