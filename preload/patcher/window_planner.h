// window_planner.h - chooses which 5 bytes or more of the original code become the jump to a stub.
// In order: the one instruction before the syscall (in libc nearly always `mov $number,%eax`, whose
// 5 bytes leave the syscall itself intact); more of the instructions before; the instructions
// after, executed again in the stub; both. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "preload/patcher/branch_targets.h"
#include "preload/patcher/decoder.h"
#include "preload/patcher/elf_image.h"
#include "preload/patcher/site_plan.h"
#include "preload/patcher/site_scanner.h"

namespace weft::preload {

enum class Relocation : uint8_t {
  none,       // cannot run elsewhere
  copy,       // as it is
  rip,        // with its displacement changed
  widen_jcc,  // as a 32-bit conditional branch
  last_jump,  // as a 32-bit jump; nothing after it runs
  last_ret,   // as it is; nothing after it runs
};

// How an instruction can be executed at another address.
Relocation relocation_of(const uint8_t* code, const Instruction& instruction);

// The call number that the instruction before the syscall loads, or -1.
int32_t number_before(const uint8_t* site, size_t previous_bytes);

// previous_end: end of the preceding site's window; windows never overlap.
// False: no window can be proven.
bool plan_window(const ElfImage& image, const BranchTargets& targets, const Candidate& candidate,
                 uintptr_t previous_end, SitePlan& out);

// True if the plan's window decodes to whole, relocatable instructions with the syscall where the
// plan says: what a plan that comes from a file must show again.
bool plan_is_sound(const SitePlan& plan);

}  // namespace weft::preload
