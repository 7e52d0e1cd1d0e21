// window_planner.cc - the rules of a safe window, and the search through the possible ones.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/window_planner.h"

namespace weft::preload {
namespace {

bool is_short_jcc(const Instruction& i) {
  return i.map == OpcodeMap::one_byte && (i.opcode & 0xf0) == 0x70;
}
bool is_near_jcc(const Instruction& i) {
  return i.map == OpcodeMap::map_0f && (i.opcode & 0xf0) == 0x80;
}
bool is_padding(const Instruction& i) {
  const bool nop = (i.map == OpcodeMap::one_byte && i.opcode == 0x90) ||
                   (i.map == OpcodeMap::map_0f && i.opcode == 0x1f);
  return nop || (i.map == OpcodeMap::one_byte && i.opcode == 0xcc);
}

bool decode_at(const ElfImage& image, uintptr_t address, Instruction& out) {
  const Segment* const segment = image.code_segment(address, 1);
  return segment != nullptr &&
         decode(reinterpret_cast<const uint8_t*>(address), segment->end - address, out);
}

// One attempt: `back` instructions before the syscall, and after it what is needed if allowed.
class Attempt {
 public:
  Attempt(const ElfImage& image, const BranchTargets& targets, const Candidate& candidate)
      : image_(image), targets_(targets), candidate_(candidate) {}

  bool fits(size_t back, bool forward, uintptr_t previous_end) {
    begin_ = candidate_.site;
    for (size_t i = 0; i < back; ++i) {
      // Stepping back over this boundary puts it inside the window.
      if (targets_.contains(begin_)) return false;
      begin_ -= candidate_.back_lengths[i];
    }
    if (begin_ < previous_end || begin_ < candidate_.function.begin) return false;
    end_ = begin_;
    for (size_t i = back; i-- > 0;) {
      Instruction instruction;
      if (!take(instruction)) return false;
      const Relocation how = relocation_of(code(end_), instruction);
      if (how == Relocation::none || how >= Relocation::last_jump) return false;
      end_ += instruction.length;
    }
    if (end_ != candidate_.site) return false;
    if (end_ - begin_ >= kJumpBytes) return !forward;
    end_ += kSyscallBytes;
    if (!forward) return end_ - begin_ >= kJumpBytes;
    if (end_ - begin_ >= kJumpBytes) return false;  // tried without `forward` before
    return extend();
  }
  uintptr_t begin() const { return begin_; }
  uintptr_t end() const { return end_; }

 private:
  static const uint8_t* code(uintptr_t address) {
    return reinterpret_cast<const uint8_t*>(address);
  }
  bool take(Instruction& out) const { return decode_at(image_, end_, out); }

  // Takes instructions after the syscall until the jump fits. After a jump or a return only padding
  // may follow: it belongs to nobody.
  bool extend() {
    bool ended = false;
    while (end_ - begin_ < kJumpBytes) {
      Instruction instruction;
      if (targets_.contains(end_) || !take(instruction)) return false;
      if (ended) {
        if (!is_padding(instruction)) return false;
      } else {
        const Relocation how = relocation_of(code(end_), instruction);
        if (how == Relocation::none) return false;
        ended = how >= Relocation::last_jump;
      }
      end_ += instruction.length;
      if (end_ > candidate_.function.end) return false;
    }
    return true;
  }

  const ElfImage& image_;
  const BranchTargets& targets_;
  const Candidate& candidate_;
  uintptr_t begin_ = 0;
  uintptr_t end_ = 0;
};

bool fill_plan(const ElfImage& image, const BranchTargets& targets, const Candidate& candidate,
               uintptr_t begin, uintptr_t end, SitePlan& out) {
  out = SitePlan{};
  const uintptr_t syscall_end = candidate.site + kSyscallBytes;
  const size_t checked = (end > syscall_end ? end : syscall_end) - begin;
  if (checked > kOriginalBytesMax || begin - image.header() > UINT32_MAX) return false;
  out.window = static_cast<uint32_t>(begin - image.header());
  out.window_bytes = static_cast<uint8_t>(end - begin);
  out.syscall_at = static_cast<uint8_t>(candidate.site - begin);
  out.checked_bytes = static_cast<uint8_t>(checked);
  // A jump to the syscall itself may bring another number.
  out.number = candidate.back_count == 0 || targets.contains(candidate.site)
                   ? -1
                   : number_before(reinterpret_cast<const uint8_t*>(candidate.site),
                                   candidate.back_lengths[0]);
  __builtin_memcpy(out.original, reinterpret_cast<const void*>(begin), checked);
  return true;
}

}  // namespace

Relocation relocation_of(const uint8_t* code, const Instruction& instruction) {
  if (instruction.vendor_dependent) return Relocation::none;
  switch (instruction.kind) {
    case InstructionKind::plain:
      if (instruction.map == OpcodeMap::map_0f && instruction.opcode == 0x1e &&
          instruction.modrm == 0xfa) {
        return Relocation::none;  // ENDBR64 marks the place of an indirect branch: it stays there
      }
      if (!instruction.rip_relative()) return Relocation::copy;
      return instruction.address_size_prefix ? Relocation::none : Relocation::rip;
    case InstructionKind::conditional:
      return is_short_jcc(instruction) || is_near_jcc(instruction) ? Relocation::widen_jcc
                                                                   : Relocation::none;
    case InstructionKind::jump:
      return Relocation::last_jump;
    case InstructionKind::ret:
      return instruction.map == OpcodeMap::one_byte && code[instruction.prefix_bytes] == 0xc3
                 ? Relocation::last_ret
                 : Relocation::none;
    case InstructionKind::call:
    case InstructionKind::indirect_jump:
    case InstructionKind::indirect_call:
    case InstructionKind::trap:
    case InstructionKind::system_call:
      break;
  }
  return Relocation::none;
}

int32_t number_before(const uint8_t* site, size_t previous_bytes) {
  const uint8_t* const code = site - previous_bytes;
  if (previous_bytes == 5 && code[0] == 0xb8) return load_int32(code + 1);
  if (previous_bytes == 7 && code[0] == 0x48 && code[1] == 0xc7 && code[2] == 0xc0) {
    return load_int32(code + 3);
  }
  const bool zeroed =
      previous_bytes == 2 && (code[0] == 0x31 || code[0] == 0x33) && code[1] == 0xc0;
  return zeroed ? 0 : -1;
}

bool plan_window(const ElfImage& image, const BranchTargets& targets, const Candidate& candidate,
                 uintptr_t previous_end, SitePlan& out) {
  Attempt attempt(image, targets, candidate);
  if (candidate.opaque) {
    return candidate.back_count != 0 && candidate.back_lengths[0] >= kJumpBytes &&
           attempt.fits(1, false, previous_end) &&
           fill_plan(image, targets, candidate, attempt.begin(), attempt.end(), out);
  }
  for (const bool forward : {false, true}) {
    for (size_t back = forward ? 0 : 1; back <= candidate.back_count; ++back) {
      if (attempt.fits(back, forward, previous_end)) {
        return fill_plan(image, targets, candidate, attempt.begin(), attempt.end(), out);
      }
    }
  }
  return false;
}

bool plan_is_sound(const SitePlan& plan) {
  const size_t after = plan.syscall_at + kSyscallBytes;
  if (plan.window_bytes < kJumpBytes || plan.reserved != 0 ||
      plan.checked_bytes > kOriginalBytesMax || plan.window_bytes > plan.checked_bytes ||
      after > plan.checked_bytes ||
      (plan.window_bytes > plan.syscall_at && plan.window_bytes < after)) {
    return false;
  }
  if (plan.checked_bytes != after && plan.checked_bytes != plan.window_bytes) return false;
  bool ended = false;
  bool seen = false;
  size_t at = 0;
  while (at < plan.checked_bytes) {
    Instruction instruction;
    if (!decode(plan.original + at, plan.checked_bytes - at, instruction)) return false;
    if (at == plan.syscall_at) {
      if (plan.original[at] != 0x0f || plan.original[at + 1] != 0x05) return false;
      seen = true;
    } else if (ended) {
      if (!is_padding(instruction)) return false;
    } else {
      const Relocation how = relocation_of(plan.original + at, instruction);
      ended = how >= Relocation::last_jump;
      if (how == Relocation::none || (ended && !seen)) return false;
    }
    at += instruction.length;
    if (!seen && at > plan.syscall_at) return false;
  }
  return seen;
}

}  // namespace weft::preload
