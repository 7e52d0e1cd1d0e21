// site_scanner.cc - the search, the decoding of functions, and the order of the proof.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/site_scanner.h"

#include "preload/patcher/window_planner.h"

namespace weft::preload {
namespace {

// Bytes around a site that a window can touch.
constexpr uintptr_t kNeighbourhoodBytes = 32;
// A short branch reaches 128 bytes back and 127 forward from its end.
constexpr uintptr_t kShortReachBytes = 160;
// A function longer than this is data.
constexpr uintptr_t kFunctionBytesMax = 1 << 22;
constexpr size_t kGapTargetsMax = 64;

const uint8_t* code_at(uintptr_t address) {
  return reinterpret_cast<const uint8_t*>(address);
}

// The first 0f 05 in [at, end), or `end`. Eight positions a step: a text segment has megabytes.
uintptr_t find_pair(uintptr_t at, uintptr_t end) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  for (; at + 9 <= end; at += 8) {
    uint64_t first;
    uint64_t second;
    __builtin_memcpy(&first, code_at(at), sizeof first);
    __builtin_memcpy(&second, code_at(at + 1), sizeof second);
    const uint64_t difference = (first ^ kOnes * 0x0f) | (second ^ kOnes * 0x05);
    // A borrow can mark a byte that is not zero, but only above one that is: the lowest is right.
    const uint64_t zero_bytes = (difference - kOnes) & ~difference & kOnes * 0x80;
    if (zero_bytes != 0) return at + static_cast<unsigned>(__builtin_ctzll(zero_bytes)) / 8;
  }
  for (; at + kSyscallBytes <= end; ++at) {
    if (code_at(at)[0] == 0x0f && code_at(at)[1] == 0x05) return at;
  }
  return end;
}

bool is_syscall(const Instruction& instruction) {
  return instruction.kind == InstructionKind::system_call && instruction.opcode == 0x05 &&
         instruction.length == kSyscallBytes;
}

// libgcc and gdb know a signal frame by these bytes: mov $15,%rax; syscall.
bool is_signal_return(const Candidate& candidate) {
  constexpr uint8_t kBytes[] = {0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};
  const uintptr_t begin = candidate.site + kSyscallBytes - sizeof kBytes;
  return begin >= candidate.function.begin && same_bytes(code_at(begin), kBytes, sizeof kBytes);
}

// Which addresses between the described end of a function and the next function are reached.
class GapFlow {
 public:
  explicit GapFlow(const FunctionRange& function) : function_(function) {}

  // Before each instruction. Inside the described range all is code.
  bool reached(uintptr_t at) {
    if (at < function_.described_end) return true;
    for (size_t i = 0; i < count_ && !flows_; ++i) flows_ = targets_[i] == at;
    return flows_;
  }
  // After each instruction that is reached.
  void step(uintptr_t at, const Instruction& instruction) {
    flows_ = !instruction.ends_flow();
    if (!instruction.has_target || instruction.kind == InstructionKind::call) return;
    const uintptr_t target = branch_target(at, instruction);
    const bool in_gap = target >= function_.described_end && target < function_.end;
    if (in_gap && count_ < kGapTargetsMax) targets_[count_++] = target;
  }

 private:
  const FunctionRange& function_;
  std::array<uintptr_t, kGapTargetsMax> targets_{};
  size_t count_ = 0;
  bool flows_ = true;
};

// The instructions before the current one, as far as control runs through them.
class Trail {
 public:
  void step(const Instruction& instruction) {
    if (instruction.ends_flow()) {
      count_ = 0;
      return;
    }
    for (size_t i = kBackMax - 1; i > 0; --i) lengths_[i] = lengths_[i - 1];
    lengths_[0] = instruction.length;
    if (count_ < kBackMax) ++count_;
  }
  void copy_to(Candidate& candidate) const {
    candidate.back_lengths = lengths_;
    candidate.back_count = count_;
  }

 private:
  std::array<uint8_t, kBackMax> lengths_{};
  uint8_t count_ = 0;
};

}  // namespace

SiteScanner::SiteScanner(const ElfImage& image, IsStub is_stub)
    : image_(image), is_stub_(is_stub), unwind_(image), candidates_(kSitesMax) {}

bool SiteScanner::scan(BoundedTable<SitePlan>& plans, ScanCounts& counts) {
  counts = ScanCounts{};
  if (!find_candidates(counts)) return false;
  if (candidates_.size() == 0) return true;

  BranchTargets targets(image_);
  collect_targets(targets);
  if (!targets.complete()) return false;

  uintptr_t previous_end = 0;
  for (const Candidate& candidate : candidates_.values()) {
    ++counts.sites;
    SitePlan plan;
    if (candidate.already_patched) {
      ++counts.already_patched;
    } else if (is_signal_return(candidate)) {
      ++counts.left_alone;
    } else if (plan_window(image_, targets, candidate, previous_end, plan)) {
      if (!plans.push(plan)) return false;
      previous_end = image_.header() + plan.window + plan.window_bytes;
    } else if (++counts.unpatchable == 1) {
      counts.first_unpatchable = static_cast<uint32_t>(candidate.site - image_.header());
    }
  }
  return true;
}

bool SiteScanner::find_candidates(ScanCounts& counts) {
  for (const Segment& segment : image_.segments()) {
    const bool code = (segment.flags & PF_X) != 0 && (segment.flags & PF_R) != 0;
    if (code && !search_segment(segment, counts)) return false;
  }
  return true;
}

bool SiteScanner::search_segment(const Segment& segment, ScanCounts& counts) {
  for (uintptr_t at = segment.begin;; at += kSyscallBytes) {
    at = find_pair(at, segment.end);
    if (at == segment.end) return !overflow_;
    ++counts.byte_pairs;
    classify(at, counts);
    if (overflow_) return false;
  }
}

void SiteScanner::classify(uintptr_t pair, ScanCounts& counts) {
  const auto is_candidate = [&] {
    // Ascending order: the candidates of this function are the last ones.
    for (size_t i = candidates_.size(); i-- > 0 && candidates_[i].site >= swept_.begin;) {
      if (candidates_[i].site == pair) return true;
    }
    return false;
  };
  bool known = swept_.contains(pair);
  if (!known && (known = unwind_.function_at(pair, swept_))) sweep_ = sweep_for_sites(swept_);
  if (known && is_candidate()) return;
  // Inside the described, decodable part it is the middle of another instruction.
  if (known && pair < swept_.described_end && pair < sweep_.valid_end) return;
  FunctionRange by_symbol{};
  if (locate_by_symbol(pair, by_symbol) && by_symbol.begin != swept_.begin) {
    swept_ = by_symbol;
    sweep_ = sweep_for_sites(swept_);
    if (is_candidate() || pair < sweep_.valid_end) return;
  }
  if (counts.unproven++ == 0) {
    counts.first_unproven = static_cast<uint32_t>(pair - image_.header());
  }
}

bool SiteScanner::locate(uintptr_t address, FunctionRange& out) const {
  return unwind_.function_at(address, out) || locate_by_symbol(address, out);
}

bool SiteScanner::locate_by_symbol(uintptr_t address, FunctionRange& out) const {
  for (const Elf64_Sym& symbol : image_.symbols()) {
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    const uintptr_t begin = image_.bias() + symbol.st_value;
    if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_shndx == SHN_UNDEF ||
        address < begin || address - begin >= symbol.st_size ||
        image_.code_segment(begin, symbol.st_size) == nullptr) {
      continue;
    }
    out = {begin, begin + symbol.st_size, begin + symbol.st_size, 0};
    return true;
  }
  return false;
}

// Appends the function's candidates, unless its described part cannot be decoded to the end.
SiteScanner::Sweep SiteScanner::sweep_for_sites(const FunctionRange& function) {
  const size_t first_candidate = candidates_.size();
  if (function.end - function.begin > kFunctionBytesMax) return {function.begin};
  GapFlow flow(function);
  Trail trail;
  bool indirect_jump = false;
  bool takes_own_address = false;
  bool patched_before = false;
  uintptr_t at = function.begin;
  for (Instruction instruction; at < function.end; at += instruction.length) {
    if (!decode(code_at(at), function.end - at, instruction) || instruction.vendor_dependent) break;
    if (!flow.reached(at)) {
      trail = Trail{};
      continue;
    }
    if (is_syscall(instruction)) {
      Candidate candidate{at, function, {}, 0, false, patched_before};
      trail.copy_to(candidate);
      // Ranges from symbols may overlap what was swept before: keep the order, and each site once.
      const size_t count = candidates_.size();
      if (count == 0 || candidates_[count - 1].site < at) {
        overflow_ |= !candidates_.push(candidate);
      }
    }
    // A patched window that kept its syscall: a jump to a stub, perhaps INT3, then the syscall.
    const bool filler = instruction.opcode == 0xcc && instruction.length == 1;
    patched_before = (patched_before && filler) ||
                     (instruction.kind == InstructionKind::jump && is_stub_ != nullptr &&
                      is_stub_(branch_target(at, instruction)));
    indirect_jump |= instruction.kind == InstructionKind::indirect_jump;
    if (instruction.rip_relative() && instruction.opcode == 0x8d) {
      const auto displacement = intptr_t{load_int32(code_at(at) + instruction.displacement_at)};
      takes_own_address |=
          function.contains(at + instruction.length + static_cast<uintptr_t>(displacement));
    }
    trail.step(instruction);
    if (!patched_before) flow.step(at, instruction);  // the stub comes back
  }
  const bool opaque = indirect_jump && takes_own_address;
  if (at < function.described_end) {
    candidates_.truncate(first_candidate);
    at = function.begin;
  }
  for (size_t i = first_candidate; i < candidates_.size(); ++i) candidates_[i].opaque = opaque;
  return {at < function.end ? at : function.end};
}

void SiteScanner::sweep_for_targets(const FunctionRange& function, BranchTargets& targets) const {
  uintptr_t at = function.begin;
  for (Instruction instruction; at < function.end; at += instruction.length) {
    if (!decode(code_at(at), function.end - at, instruction) || instruction.vendor_dependent) break;
    if (instruction.has_target) targets.add(branch_target(at, instruction));
  }
  targets.collect_short_branches(at, function.end);
}

void SiteScanner::collect_targets(BranchTargets& targets) {
  for (const Candidate& candidate : candidates_.values()) {
    targets.watch(candidate.site - kNeighbourhoodBytes, candidate.site + kNeighbourhoodBytes);
  }
  targets.collect();
  uintptr_t done = 0;  // short branches before this address are collected
  for (size_t i = 0; i < candidates_.size(); ++i) {
    Candidate& candidate = candidates_[i];
    if (!unwind_.for_each_landing_pad(candidate.function,
                                      [&](uintptr_t pad) { targets.add(pad); })) {
      candidate.opaque = true;
    }
    const Segment* const segment = image_.code_segment(candidate.site, kSyscallBytes);
    uintptr_t from = candidate.site - kShortReachBytes;
    uintptr_t to = candidate.site + kShortReachBytes;
    if (from < segment->begin) from = segment->begin;
    if (to > segment->end) to = segment->end;
    if (from < done) from = done;
    while (from < to) {
      FunctionRange function{};
      if (locate(from, function)) {
        sweep_for_targets(function, targets);
        from = function.end;
      } else {
        targets.collect_short_branches(from, to);
        from = to;
      }
    }
    if (from > done) done = from;
  }
}

}  // namespace weft::preload
