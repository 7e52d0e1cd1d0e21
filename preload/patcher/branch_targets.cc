// branch_targets.cc - the search for branches, and the set that keeps what it finds.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/branch_targets.h"

#include "preload/patcher/decoder.h"

namespace weft::preload {
namespace {

// Longest switch we follow. gcc's own generated matchers stay below 20 000 cases.
constexpr size_t kTableEntriesMax = 1 << 16;

size_t hash_of(uint32_t key) {
  return (key * 0x9e3779b1u) >> 16;
}

}  // namespace

BranchTargets::BranchTargets(const ElfImage& image)
    : image_(image),
      watched_((image.high() - image.low()) / (kGranuleBytes * 8) + 1),
      slots_(kSlots) {
  complete_ = watched_.reserve_all() && slots_.reserve_all();
}

void BranchTargets::watch(uintptr_t begin, uintptr_t end) {
  if (!complete_) return;
  if (begin < image_.low()) begin = image_.low();
  if (end > image_.high()) end = image_.high();
  for (uintptr_t at = align_down(begin - image_.low(), kGranuleBytes); at < end - image_.low();
       at += kGranuleBytes) {
    const uintptr_t granule = at / kGranuleBytes;
    watched_[granule / 8] = static_cast<uint8_t>(watched_[granule / 8] | 1 << (granule % 8));
  }
}

void BranchTargets::insert(uintptr_t target) {
  const auto key = static_cast<uint32_t>(target - image_.low() + 1);
  for (size_t i = hash_of(key) % kSlots;; i = (i + 1) % kSlots) {
    if (slots_[i] == key) return;
    if (slots_[i] != 0) continue;
    if (count_ == kTargetsMax) {
      complete_ = false;
      return;
    }
    slots_[i] = key;
    ++count_;
    return;
  }
}

bool BranchTargets::contains(uintptr_t address) const {
  const auto key = static_cast<uint32_t>(address - image_.low() + 1);
  for (size_t i = hash_of(key) % kSlots; slots_[i] != 0; i = (i + 1) % kSlots) {
    if (slots_[i] == key) return true;
  }
  return false;
}

void BranchTargets::collect() {
  if (!complete_) return;
  for (const Segment& segment : image_.segments()) {
    if ((segment.flags & PF_R) == 0) continue;
    if ((segment.flags & PF_X) != 0) collect_code(segment);
    // Code too: without -z separate-code its segment holds the constants and their switch tables.
    collect_data(segment);
  }
  for (const Elf64_Sym& symbol : image_.symbols()) {
    if (symbol.st_shndx != SHN_UNDEF) add(image_.bias() + symbol.st_value);
  }
  for (const Elf64_Rela& relocation : image_.relocations()) {
    add(image_.bias() + static_cast<uintptr_t>(relocation.r_addend));
  }
}

void BranchTargets::collect_code(const Segment& segment) {
  if (segment.end - segment.begin < 6) return;
  const auto target_of = [](uintptr_t operand) {
    return operand + 4 +
           static_cast<uintptr_t>(intptr_t{load_int32(reinterpret_cast<const uint8_t*>(operand))});
  };
  for (uintptr_t at = segment.begin; at + 6 <= segment.end; ++at) {
    const auto* const code = reinterpret_cast<const uint8_t*>(at);
    const uint8_t byte = code[0];
    if ((byte & 0xfe) == 0xe8) {
      add(target_of(at + 1));
    } else if (byte == 0x0f ? (code[1] & 0xf0) == 0x80 : byte == 0xc7 && code[1] == 0xf8) {
      add(target_of(at + 2));
    } else if (byte == 0x8d && (code[1] & 0xc7) == 0x05) {
      const uintptr_t target = target_of(at + 2);
      add(target);
      read_jump_table(target);
    }
  }
  // A call or jump may be the very last instruction: 5 bytes.
  const uintptr_t last = segment.end - 5;
  if ((*reinterpret_cast<const uint8_t*>(last) & 0xfe) == 0xe8) add(target_of(last + 1));
}

// Ends at the first entry that does not lead into code. Running on into the next table reads its
// entries against the wrong base: more targets than there are, never fewer.
void BranchTargets::read_jump_table(uintptr_t table) {
  if (table % 4 != 0) return;
  const Segment* home = nullptr;
  for (const Segment& segment : image_.segments()) {
    if ((segment.flags & PF_R) != 0 && segment.contains(table, 4)) home = &segment;
  }
  if (home == nullptr) return;
  for (size_t i = 0; i < kTableEntriesMax && home->contains(table + i * 4, 4); ++i) {
    const int32_t offset = load_int32(reinterpret_cast<const uint8_t*>(table + i * 4));
    const uintptr_t target = table + static_cast<uintptr_t>(intptr_t{offset});
    if (image_.code_segment(target, 1) == nullptr) return;
    add(target);
  }
}

void BranchTargets::collect_data(const Segment& segment) {
  for (uintptr_t at = align_up(segment.begin, 8); at + 8 <= segment.end; at += 8) {
    const uintptr_t value = *reinterpret_cast<const uintptr_t*>(at);
    add(value);
    // DT_RELR, not applied yet.
    add(image_.bias() + value);
  }
}

void BranchTargets::collect_short_branches(uintptr_t begin, uintptr_t end) {
  for (uintptr_t at = begin; at + 2 <= end; ++at) {
    const auto* const code = reinterpret_cast<const uint8_t*>(at);
    const bool branch = (code[0] & 0xf0) == 0x70 || code[0] == 0xeb || (code[0] & 0xfc) == 0xe0;
    if (branch) add(at + 2 + static_cast<uintptr_t>(intptr_t{static_cast<int8_t>(code[1])}));
  }
}

}  // namespace weft::preload
