// branch_targets.h - every address near a system call that something may jump to.
// A window may be overwritten only if nothing jumps into its middle. Branches are looked for as bit
// patterns at every byte of the code, not only where a decoder sees an instruction: that finds all
// of them, whatever the boundaries are, and a few that are none, which costs a better window at
// worst. Only the one-byte branches, too frequent for that, are taken from decoded code.
//   rel32 branches        every E8, E9, 0F 8x and C7 F8 in the executable segments
//   rel8 branches         the decoded functions around a site (add())
//   jump tables           every LEA's address is read as a table of 4-byte offsets
//   code addresses taken  every LEA of a code address
//   absolute pointers     every aligned word of the object and what the loader will write into it
//                         (switch tables of non-PIC code, &&label); relocated or not, both are seen
//   symbols, landing pads from their tables (add())
// Belongs to one scan; not thread safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "preload/patcher/elf_image.h"
#include "preload/patcher/memory.h"

namespace weft::preload {

class BranchTargets {
 public:
  // `image` must outlive the object.
  explicit BranchTargets(const ElfImage& image);

  // Only targets in watched code are kept.
  void watch(uintptr_t begin, uintptr_t end);
  bool watched(uintptr_t address) const {
    const uintptr_t offset = address - image_.low();
    if (offset >= image_.high() - image_.low()) return false;
    const uintptr_t granule = offset / kGranuleBytes;
    return (watched_[granule / 8] >> (granule % 8) & 1) != 0;
  }

  void add(uintptr_t target) {
    if (watched(target)) insert(target);
  }
  // Looks through the whole object. After watch().
  void collect();
  // rel8 branches as bit patterns, for code that could not be decoded.
  void collect_short_branches(uintptr_t begin, uintptr_t end);

  bool contains(uintptr_t address) const;
  // False: out of memory or too many targets; nothing may be concluded from contains().
  bool complete() const { return complete_; }

 private:
  void insert(uintptr_t target);
  void collect_code(const Segment& segment);
  void collect_data(const Segment& segment);
  void read_jump_table(uintptr_t table);

  static constexpr size_t kGranuleBytes = 64;
  static constexpr size_t kSlots = 1 << 16;
  static constexpr size_t kTargetsMax = kSlots / 2;

  const ElfImage& image_;
  BoundedTable<uint8_t> watched_;
  BoundedTable<uint32_t> slots_;  // open addressing; offset from low() + 1, 0 = free
  size_t count_ = 0;
  bool complete_ = true;
};

}  // namespace weft::preload
