// patcher.h - turns every proven `syscall` instruction of loaded objects into a jump to the gate.
// Two phases: plan every object, then write every one. A call changes all it was asked for or
// nothing. After it the program's code runs as before, except that a system call site jumps to its
// stub, which enters the gate with r11 = its Site.
// Who runs it: one kernel thread in the process, or objects that no thread executes yet; never two
// calls at a time. It calls no libc function and may run inside the loader or malloc.
// The lookups may run in parallel with a call, also in a signal handler.
// Read next: site_scanner.h (the proof), stub_writer.h (the contract of a stub).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::preload {

struct PatchedImage;

// The gate must save the vector registers: the object may keep one alive over the call.
inline constexpr uint32_t kSiteSavesVector = 1;

// One per patched site, read-only once published, never freed. The gate knows the first offsets.
struct Site {
  const void* pc;      // after the syscall instruction in the original text: what unwinders see
  const void* resume;  // where the gate goes back to: the original text, or the stub's tail
  const void* inline_call;  // executes the syscall in the stub, with no frame of ours, and goes on
  uint32_t flags;           // kSiteSavesVector
  int32_t number;           // the call number if it is constant, else -1
  const void* stub;
  const PatchedImage* image;
  uint64_t offset;  // of the syscall instruction, from the image's load bias (as in its file)
};
static_assert(offsetof(Site, pc) == 0 && offsetof(Site, resume) == 8 &&
              offsetof(Site, inline_call) == 16 && offsetof(Site, flags) == 24 &&
              offsetof(Site, number) == 28);

// Where a stub switches interception on again after an inline call: a byte of the worker's block,
// which %gs points to.
inline constexpr size_t kInterceptingByteOffset = 16;

inline constexpr size_t kImageNameBytes = 192;

// A patched object; read-only and never freed, even if the object is unloaded.
struct PatchedImage {
  const PatchedImage* next;  // patched before
  const Site* sites;         // ascending by pc and by stub
  size_t site_count;
  uintptr_t low;
  uintptr_t high;
  uintptr_t stubs_begin;
  uintptr_t stubs_end;
  char name[kImageNameBytes];
};

struct ImageRef {
  const void* elf_header;  // where the loader mapped the first bytes of the file
  const char* name;        // for reports; copied
  // An unpatchable or unproven site fails the whole call (libc, the loader). In any other object
  // the site stays as it is and is counted.
  bool required;
};

struct PatchOptions {
  const void* gate_entry;       // stubs jump here
  const char* cache_directory;  // from site_cache_directory(), or null: no cache
  bool protection_only;         // do not use /proc/self/mem
};

struct PatchReport {
  uint32_t images;          // looked at
  uint32_t images_skipped;  // not required, and no ELF object that we understand
  uint32_t images_from_cache;
  uint32_t sites;  // proven system call instructions
  uint32_t patched;
  uint32_t intact_windows;  // of these: the syscall instruction itself stays
  uint32_t tail_windows;    // of these: instructions after the syscall moved to the stub
  uint32_t already_patched;
  uint32_t left_alone;  // __restore_rt
  uint32_t unpatchable;
  uint32_t unproven;          // the bytes of a syscall, in what may be code or data
  uint64_t first_bad_offset;  // of the first unpatchable or else unproven one
  char first_bad_image[kImageNameBytes];
  char error[256];  // one line for users if the call failed, without the "weft: "
};

// False: nothing was changed, and report.error says why.
bool patch_images(std::span<const ImageRef> images, const PatchOptions& options,
                  PatchReport& report);

// Lookups, for audits, signal handlers and reports. Null or false for what is not ours.
bool is_stub_address(uintptr_t address);
const Site* site_of_stub(uintptr_t address);
const Site* site_at_pc(uintptr_t pc);
const PatchedImage* patched_images();

}  // namespace weft::preload
