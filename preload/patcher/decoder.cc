// decoder.cc - the opcode tables and the one pass over an instruction's bytes.
// Source: Intel SDM volume 2 (chapter 2, appendix A) and AMD APM volume 3 (appendix A) for 64-bit
// mode. Two tables of one byte per opcode; the maps 0F38 and 0F3A are uniform and need none.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/decoder.h"

#include <array>

namespace weft::preload {
namespace {

// What follows an opcode.
constexpr uint8_t kModrm = 1;
constexpr uint8_t kByte = 2;     // imm8 or rel8
constexpr uint8_t kOperand = 4;  // imm16 with a 66 prefix, else imm32
constexpr uint8_t kBranch = 8;   // the immediate is relative to the next instruction
constexpr uint8_t kInvalid = 16;
constexpr uint8_t kSpecial = 32;  // finish_special() knows more

using Table = std::array<uint8_t, 256>;

constexpr void set(Table& table, unsigned first, unsigned last, unsigned value) {
  for (unsigned i = first; i <= last; ++i) table[i] = static_cast<uint8_t>(value);
}

constexpr Table make_one_byte_table() {
  Table t{};
  for (unsigned row = 0; row < 0x40; row += 8) {  // ADD OR ADC SBB AND SUB XOR CMP
    set(t, row, row + 3, kModrm);
    t[row + 4] = kByte;
    t[row + 5] = kOperand;
    set(t, row + 6, row + 7, kInvalid);
  }
  set(t, 0x60, 0x62, kInvalid);  // 62 is EVEX, taken before the table
  t[0x63] = kModrm;
  t[0x68] = kOperand;
  t[0x69] = kModrm | kOperand;
  t[0x6a] = kByte;
  t[0x6b] = kModrm | kByte;
  set(t, 0x70, 0x7f, kByte | kBranch);
  t[0x80] = t[0x83] = kModrm | kByte;
  t[0x81] = kModrm | kOperand;
  t[0x82] = kInvalid;
  set(t, 0x84, 0x8f, kModrm);
  t[0x9a] = kInvalid;
  set(t, 0xa0, 0xa3, kSpecial);  // moffs
  t[0xa8] = kByte;
  t[0xa9] = kOperand;
  set(t, 0xb0, 0xb7, kByte);
  set(t, 0xb8, 0xbf, kSpecial);  // the only 64-bit immediate
  set(t, 0xc0, 0xc1, kModrm | kByte);
  t[0xc2] = t[0xca] = kSpecial;  // RET imm16
  set(t, 0xc4, 0xc5, kInvalid);  // VEX, taken before the table
  t[0xc6] = kModrm | kByte;
  t[0xc7] = kModrm | kOperand | kSpecial;  // XBEGIN hides here
  t[0xc8] = kSpecial;                      // ENTER imm16, imm8
  t[0xcd] = kByte;
  t[0xce] = kInvalid;
  set(t, 0xd0, 0xd3, kModrm);
  set(t, 0xd4, 0xd6, kInvalid);
  set(t, 0xd8, 0xdf, kModrm);
  set(t, 0xe0, 0xe3, kByte | kBranch);
  set(t, 0xe4, 0xe7, kByte);
  set(t, 0xe8, 0xe9, kOperand | kBranch);
  t[0xea] = kInvalid;
  t[0xeb] = kByte | kBranch;
  set(t, 0xf6, 0xf7, kModrm | kSpecial);  // TEST has an immediate, its neighbours none
  set(t, 0xfe, 0xff, kModrm);
  return t;
}

constexpr Table make_0f_table() {
  Table t{};
  set(t, 0x00, 0x03, kModrm);
  t[0x04] = t[0x0a] = t[0x0c] = kInvalid;
  t[0x0d] = kModrm;
  t[0x0f] = kModrm | kByte;  // 3DNow!: the opcode stands where an immediate would
  set(t, 0x10, 0x1f, kModrm);
  set(t, 0x20, 0x23, kModrm | kSpecial);  // control registers: mod is ignored
  set(t, 0x24, 0x27, kInvalid);
  set(t, 0x28, 0x2f, kModrm);
  t[0x36] = kInvalid;
  set(t, 0x38, 0x3f, kInvalid);  // 38 and 3A are maps of their own
  set(t, 0x40, 0x6f, kModrm);
  set(t, 0x70, 0x73, kModrm | kByte);
  set(t, 0x74, 0x76, kModrm);
  t[0x78] = kModrm | kSpecial;  // EXTRQ and INSERTQ carry two bytes
  t[0x79] = kModrm;
  set(t, 0x7a, 0x7b, kInvalid);
  set(t, 0x7c, 0x7f, kModrm);
  set(t, 0x80, 0x8f, kOperand | kBranch);
  set(t, 0x90, 0x9f, kModrm);
  t[0xa3] = t[0xa5] = kModrm;
  t[0xa4] = t[0xac] = kModrm | kByte;
  set(t, 0xa6, 0xa7, kModrm);
  t[0xab] = t[0xad] = t[0xae] = t[0xaf] = kModrm;
  set(t, 0xb0, 0xb9, kModrm);
  t[0xba] = kModrm | kByte;
  set(t, 0xbb, 0xc1, kModrm);
  t[0xc2] = t[0xc4] = t[0xc5] = t[0xc6] = kModrm | kByte;
  t[0xc3] = t[0xc7] = kModrm;
  set(t, 0xd0, 0xff, kModrm);
  return t;
}

constexpr Table kOneByteTable = make_one_byte_table();
constexpr Table k0fTable = make_0f_table();
constexpr size_t kInstructionBytesMax = 15;

// The bytes of one instruction, in order, with the end in sight.
class Cursor {
 public:
  Cursor(const uint8_t* code, size_t available)
      : code_(code), limit_(available < kInstructionBytesMax ? available : kInstructionBytesMax) {}

  bool next(uint8_t& byte) {
    if (at_ >= limit_) return false;
    byte = code_[at_++];
    return true;
  }
  bool peek(uint8_t& byte) const {
    if (at_ >= limit_) return false;
    byte = code_[at_];
    return true;
  }
  bool skip(size_t count) {
    if (count > limit_ - at_) return false;
    at_ += count;
    return true;
  }
  size_t at() const { return at_; }
  const uint8_t* here() const { return code_ + at_; }

 private:
  const uint8_t* code_;
  size_t limit_;
  size_t at_ = 0;
};

struct Prefixes {
  bool repeat_f2;
  bool repeat_f3;
  bool lock;
  uint8_t rex;
};

bool read_prefixes(Cursor& cursor, Prefixes& prefixes, Instruction& out) {
  for (uint8_t byte; cursor.peek(byte);) {
    if ((byte & 0xf0) == 0x40) {
      prefixes.rex = byte;
    } else {
      switch (byte) {
        case 0x66:
          out.operand_size_prefix = true;
          break;
        case 0x67:
          out.address_size_prefix = true;
          break;
        case 0xf0:
          prefixes.lock = true;
          break;
        case 0xf2:
          prefixes.repeat_f2 = true;
          break;
        case 0xf3:
          prefixes.repeat_f3 = true;
          break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
          break;
        default:
          out.prefix_bytes = static_cast<uint8_t>(cursor.at());
          out.rex_w = (prefixes.rex & 8) != 0;
          return true;
      }
      prefixes.rex = 0;  // REX counts only directly before the opcode
    }
    if (!cursor.skip(1)) return false;
  }
  return false;
}

// ModRM, SIB and displacement. `register_only`: the mod field is ignored (MOV to control
// registers).
bool read_modrm(Cursor& cursor, Instruction& out, bool register_only = false) {
  if (!cursor.next(out.modrm)) return false;
  const unsigned mod = out.modrm >> 6;
  const unsigned rm = out.modrm & 7;
  if (mod == 3 || register_only) return true;
  size_t displacement = mod == 1 ? 1 : mod == 2 ? 4 : 0;
  if (rm == 4) {
    uint8_t sib;
    if (!cursor.next(sib)) return false;
    if (mod == 0 && (sib & 7) == 5) displacement = 4;
  } else if (mod == 0 && rm == 5) {
    out.displacement_at = static_cast<uint8_t>(cursor.at());
    displacement = 4;
  }
  return cursor.skip(displacement);
}

// After the prefix bytes of VEX, EVEX or XOP: opcode, operands and, by map, an immediate.
bool finish_vector(Cursor& cursor, unsigned map, Instruction& out) {
  out.map = OpcodeMap::vector;
  if (!cursor.next(out.opcode)) return false;
  size_t immediate = 0;
  switch (map) {
    case 1:
      if (out.opcode == 0x77) return true;  // VZEROUPPER, VZEROALL
      if ((k0fTable[out.opcode] & kByte) != 0) immediate = 1;
      break;
    case 2:
    case 5:
    case 6:
    case 9:
      break;
    case 3:
    case 8:
      immediate = 1;
      break;
    case 10:
      immediate = 4;
      break;
    default:
      return false;
  }
  return read_modrm(cursor, out) && cursor.skip(immediate);
}

// VEX (C4, C5), EVEX (62) and XOP (8F with a map of 8 and more). `handled` false: a legacy 8F.
bool read_vector(Cursor& cursor, const Prefixes& prefixes, uint8_t escape, Instruction& out,
                 bool& handled) {
  uint8_t first;
  if (!cursor.peek(first)) return false;
  handled = escape != 0x8f || (first & 0x1f) >= 8;
  if (!handled) return true;
  if (prefixes.rex != 0 || prefixes.lock || prefixes.repeat_f2 || prefixes.repeat_f3 ||
      out.operand_size_prefix) {
    return false;  // #UD
  }
  unsigned map = 1;
  if (escape == 0xc5) return cursor.skip(1) && finish_vector(cursor, map, out);
  if (escape != 0x62) {
    map = first & 0x1f;
    if (escape == 0xc4 && map > 3) return false;
    return cursor.skip(2) && finish_vector(cursor, map, out);
  }
  map = first & 7;
  uint8_t second;
  // Bit 3 of the first and bit 2 of the second byte are fixed; other values belong to APX.
  if ((first & 8) != 0 || !cursor.skip(1) || !cursor.next(second) || (second & 4) == 0)
    return false;
  return cursor.skip(1) && finish_vector(cursor, map, out);
}

InstructionKind kind_of(const Instruction& instruction, uint8_t flags) {
  const uint8_t opcode = instruction.opcode;
  if (instruction.map == OpcodeMap::map_0f) {
    switch (opcode) {
      case 0x05:
      case 0x34:
        return InstructionKind::system_call;
      case 0x07:
      case 0x35:
        return InstructionKind::ret;
      case 0x0b:
      case 0xb9:
      case 0xff:
        return InstructionKind::trap;
      default:
        break;
    }
    return (flags & kBranch) != 0 ? InstructionKind::conditional : InstructionKind::plain;
  }
  if (instruction.map != OpcodeMap::one_byte) return InstructionKind::plain;
  const unsigned reg = (instruction.modrm >> 3) & 7;
  switch (opcode) {
    case 0xe8:
      return InstructionKind::call;
    case 0xe9:
    case 0xeb:
      return InstructionKind::jump;
    case 0xc2:
    case 0xc3:
    case 0xca:
    case 0xcb:
    case 0xcf:
      return InstructionKind::ret;
    case 0xcc:
    case 0xf1:
    case 0xf4:
      return InstructionKind::trap;
    case 0xc7:
      return instruction.modrm == 0xf8 ? InstructionKind::conditional : InstructionKind::plain;
    case 0xff:
      if (reg == 2 || reg == 3) return InstructionKind::indirect_call;
      if (reg == 4 || reg == 5) return InstructionKind::indirect_jump;
      return InstructionKind::plain;
    default:
      break;
  }
  return (flags & kBranch) != 0 ? InstructionKind::conditional : InstructionKind::plain;
}

// Bytes after the operands that the table cannot say alone.
size_t special_bytes(const Instruction& instruction, const Prefixes& prefixes) {
  const bool word = instruction.operand_size_prefix && !instruction.rex_w;
  const uint8_t opcode = instruction.opcode;
  if (instruction.map == OpcodeMap::map_0f) {
    const bool two_bytes = instruction.operand_size_prefix || prefixes.repeat_f2;
    return opcode == 0x78 && two_bytes ? 2 : 0;
  }
  if (opcode >= 0xa0 && opcode <= 0xa3) return instruction.address_size_prefix ? 4 : 8;
  if (opcode >= 0xb8 && opcode <= 0xbf) return instruction.rex_w ? 8 : word ? 2 : 4;
  if (opcode == 0xc2 || opcode == 0xca) return 2;
  if (opcode == 0xc8) return 3;
  const bool test = ((instruction.modrm >> 3) & 7) < 2;
  if (opcode == 0xf6) return test ? 1 : 0;
  if (opcode == 0xf7) return !test ? 0 : word ? 2 : 4;
  return 0;
}

bool read_opcode(Cursor& cursor, Instruction& out, uint8_t& flags) {
  if (!cursor.next(out.opcode)) return false;
  out.map = OpcodeMap::one_byte;
  flags = kOneByteTable[out.opcode];
  if (out.opcode != 0x0f) return true;
  if (!cursor.next(out.opcode)) return false;
  out.map = OpcodeMap::map_0f;
  flags = k0fTable[out.opcode];
  if (out.opcode != 0x38 && out.opcode != 0x3a) return true;
  const bool with_byte = out.opcode == 0x3a;
  out.map = with_byte ? OpcodeMap::map_0f3a : OpcodeMap::map_0f38;
  flags = with_byte ? kModrm | kByte : kModrm;
  return cursor.next(out.opcode);
}

}  // namespace

bool decode(const uint8_t* code, size_t available, Instruction& out) {
  out = Instruction{};
  Cursor cursor(code, available);
  Prefixes prefixes{};
  if (!read_prefixes(cursor, prefixes, out)) return false;

  uint8_t flags = 0;
  if (!read_opcode(cursor, out, flags)) return false;
  if (out.map == OpcodeMap::one_byte &&
      (out.opcode == 0xc4 || out.opcode == 0xc5 || out.opcode == 0x62 || out.opcode == 0x8f)) {
    bool handled = false;
    if (!read_vector(cursor, prefixes, out.opcode, out, handled)) return false;
    if (handled) {
      out.length = static_cast<uint8_t>(cursor.at());
      return true;
    }
  }
  if ((flags & kInvalid) != 0) return false;

  const bool special = (flags & kSpecial) != 0;
  const bool control_register = special && out.map == OpcodeMap::map_0f && out.opcode < 0x24;
  if ((flags & kModrm) != 0 && !read_modrm(cursor, out, control_register)) return false;
  out.kind = kind_of(out, flags);

  const bool branch = (flags & kBranch) != 0 ||
                      (out.opcode == 0xc7 && out.modrm == 0xf8 && out.map == OpcodeMap::one_byte);
  const uint8_t* const immediate = cursor.here();
  size_t bytes = (flags & kByte) != 0 ? 1 : 0;
  if ((flags & kOperand) != 0) {
    const bool word = out.operand_size_prefix && !out.rex_w;
    out.vendor_dependent = branch && word;
    // XBEGIN alone of the branches has a true 16-bit form; it is vendor neutral, but refused too.
    bytes = word && (!branch || out.opcode == 0xc7) ? 2 : 4;
  }
  if (special) bytes += special_bytes(out, prefixes);
  if (!cursor.skip(bytes)) return false;
  if (branch) {
    out.has_target = true;
    out.target_offset = bytes == 1   ? static_cast<int8_t>(*immediate)
                        : bytes == 2 ? static_cast<int16_t>(immediate[0] | (immediate[1] << 8))
                                     : load_int32(immediate);
  }
  out.length = static_cast<uint8_t>(cursor.at());
  return true;
}

}  // namespace weft::preload
