// site_plan.h - what is known of one system call instruction and the window around it: the result
// of a scan, the record of the cache, the input of the stub writer.
// Fixed layout without padding, because it is also a file format (site_cache.h counts versions).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace weft::preload {

// jmp rel32.
inline constexpr size_t kJumpBytes = 5;
inline constexpr size_t kSyscallBytes = 2;
inline constexpr size_t kOriginalBytesMax = 24;

struct SitePlan {
  uint32_t window;       // first byte to overwrite, from the ELF header
  uint8_t window_bytes;  // how many to overwrite, at least kJumpBytes
  uint8_t syscall_at;  // where the syscall starts, from `window`; may be == window_bytes: then its
                       // two bytes stay, and a stray jump to them is a plain system call
  uint8_t checked_bytes;  // valid bytes of `original`: the window and the syscall
  uint8_t reserved;
  int32_t number;  // the call number if a constant is loaded directly before, else -1
  uint8_t original[kOriginalBytesMax];

  bool keeps_syscall() const { return window_bytes <= syscall_at; }
  // The window takes instructions after the syscall, which the stub must execute again.
  bool has_tail() const { return window_bytes > syscall_at + kSyscallBytes; }
};
static_assert(sizeof(SitePlan) == 36 && std::is_trivially_copyable_v<SitePlan>);
static_assert(std::has_unique_object_representations_v<SitePlan>);

// What a scan saw besides the plans. Offsets are from the ELF header; 0 = none.
struct ScanCounts {
  uint32_t byte_pairs;       // 0f 05 anywhere in the executable segments
  uint32_t sites;            // proven system call instructions
  uint32_t left_alone;       // of these: __restore_rt, which unwinders know by its bytes
  uint32_t already_patched;  // of these: by an earlier call
  uint32_t unpatchable;      // of these: no window could be proven
  uint32_t unproven;         // byte pairs in code that could not be decoded or reached
  uint32_t first_unpatchable;
  uint32_t first_unproven;
};
static_assert(std::is_trivially_copyable_v<ScanCounts>);

}  // namespace weft::preload
