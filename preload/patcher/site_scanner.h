// site_scanner.h - finds every system call instruction of an object and proves a window for each.
//   1 search the executable segments for the bytes 0f 05
//   2 decode the function around each (unwind table, else dynamic symbol), up to the NEXT
//     function's start; a pair inside another instruction is no site
//   3 collect what may jump near a site (branch_targets.h)
//   4 choose the cheapest window of 5 bytes with nothing jumping into it (window_planner.h)
// Guarantee: a planned site is an instruction, and its window has no entry but its first byte. What
// cannot be shown is counted, never assumed. Reads the object only; not thread safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "preload/patcher/branch_targets.h"
#include "preload/patcher/decoder.h"
#include "preload/patcher/elf_image.h"
#include "preload/patcher/memory.h"
#include "preload/patcher/site_plan.h"
#include "preload/patcher/unwind_table.h"

namespace weft::preload {

// More sites than any object has; libc has 526.
inline constexpr size_t kSitesMax = 1 << 14;
// Instructions before a site that may join its window.
inline constexpr size_t kBackMax = 4;

// A proven system call instruction and the instructions that run directly before it.
struct Candidate {
  uintptr_t site;
  FunctionRange function;
  std::array<uint8_t, kBackMax> back_lengths;  // nearest first
  uint8_t back_count;
  // The function may jump to addresses that no table shows (offset-based computed goto, unreadable
  // landing pads): only a window without an inner instruction boundary is safe.
  bool opaque;
  bool already_patched;
};

class SiteScanner {
 public:
  // Says whether a jump leads to a stub, i.e. whether a site was patched before.
  using IsStub = bool (*)(uintptr_t address);

  SiteScanner(const ElfImage& image, IsStub is_stub);

  // Appends one plan per patchable site, in ascending order. False: out of memory or over a limit.
  bool scan(BoundedTable<SitePlan>& plans, ScanCounts& counts);

 private:
  struct Sweep {
    uintptr_t valid_end;  // nothing is known of the function's bytes from here on
  };

  bool find_candidates(ScanCounts& counts);
  bool search_segment(const Segment& segment, ScanCounts& counts);
  void classify(uintptr_t pair, ScanCounts& counts);
  bool locate(uintptr_t address, FunctionRange& out) const;
  bool locate_by_symbol(uintptr_t address, FunctionRange& out) const;
  Sweep sweep_for_sites(const FunctionRange& function);
  void sweep_for_targets(const FunctionRange& function, BranchTargets& targets) const;
  void collect_targets(BranchTargets& targets);

  const ElfImage& image_;
  IsStub is_stub_;
  UnwindTable unwind_;
  BoundedTable<Candidate> candidates_;
  FunctionRange swept_{};  // the function whose candidates were added last
  Sweep sweep_{};
  bool overflow_ = false;
};

}  // namespace weft::preload
