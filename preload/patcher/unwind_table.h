// unwind_table.h - which function an address belongs to, and where the unwinder may land in it.
// The source is what every linker writes for exceptions: the sorted table of .eh_frame_hdr, the
// frame descriptions (FDE) in .eh_frame and their language-specific data (landing pads).
// Guarantee: reads only readable segments of the image; what is malformed or encoded in a way that
// no x86-64 toolchain uses is reported as absent, never guessed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "preload/patcher/elf_image.h"

namespace weft::preload {

struct FunctionRange {
  uintptr_t begin;
  // Where the frame description says the function ends. glibc's clone and clone3 end it before
  // their system call on purpose, so that no unwinder goes on there.
  uintptr_t described_end;
  uintptr_t end;          // start of the next described function, or the end of the segment
  uintptr_t frame_entry;  // address of the FDE, 0 = the range comes from a symbol
  bool contains(uintptr_t address) const { return address >= begin && address < end; }
};

class UnwindTable {
 public:
  // `image` must outlive the table.
  explicit UnwindTable(const ElfImage& image);

  // The function whose range, up to the next function's start, holds `address`.
  bool function_at(uintptr_t address, FunctionRange& out) const;

  // Calls visit(address) for each landing pad of the function. False: unreadable, so unknown.
  template <typename Visit>
  bool for_each_landing_pad(const FunctionRange& function, Visit&& visit) const {
    CallSites sites{};
    if (function.frame_entry == 0) return true;
    if (!find_call_sites(function, sites)) return false;
    while (sites.at < sites.end) {
      uintptr_t pad = 0;
      if (!next_landing_pad(sites, pad)) return false;
      if (pad != 0) visit(pad);
    }
    return true;
  }

 private:
  struct Entry {
    int32_t function;  // both relative to the start of .eh_frame_hdr
    int32_t frame_entry;
  };
  struct Frame {
    uintptr_t begin;
    uintptr_t bytes;
    uintptr_t language_data;  // 0 = none
  };
  struct CallSites {
    uintptr_t at;  // 0 with end 0: the function has none
    uintptr_t end;
    uintptr_t landing_base;
    uint8_t encoding;
  };

  uintptr_t start_of(size_t entry) const;
  bool read_frame(uintptr_t frame_entry, Frame& out) const;
  bool find_call_sites(const FunctionRange& function, CallSites& out) const;
  bool next_landing_pad(CallSites& sites, uintptr_t& pad) const;

  const ElfImage& image_;
  uintptr_t header_ = 0;
  std::span<const Entry> entries_{};
};

}  // namespace weft::preload
