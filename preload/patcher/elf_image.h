// elf_image.h - a read-only view of an ELF object as it lies in memory: segments, build-id, name,
// dynamic symbols.
// Guarantee: every table is checked to lie inside a readable segment before it is read, so a
// malformed object yields "absent", not a fault. Nothing is copied and nothing is written.
// Whoever holds a view keeps the object loaded. Any thread may read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <elf.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::preload {

struct Segment {
  uintptr_t begin;
  uintptr_t end;   // of the bytes that come from the file
  uint32_t flags;  // PF_R | PF_W | PF_X
  bool contains(uintptr_t address, size_t bytes) const {
    return address >= begin && address <= end && bytes <= end - address;
  }
};

class ElfImage {
 public:
  // elf_header: where the loader mapped the first bytes of the file.
  // readable_bytes: how far from there memory is known to be readable; SIZE_MAX trusts the program
  // headers, which is right for an object that the loader has accepted.
  static bool parse(const void* elf_header, size_t readable_bytes, ElfImage& out);

  uintptr_t header() const { return header_; }
  uintptr_t bias() const { return bias_; }  // added to the addresses inside the file
  uintptr_t low() const { return low_; }
  uintptr_t high() const { return high_; }
  std::span<const Segment> segments() const { return {segments_.data(), segment_count_}; }
  // The executable, readable segment that holds the range, or null.
  const Segment* code_segment(uintptr_t address, size_t bytes) const;
  bool readable(uintptr_t address, size_t bytes) const;

  std::span<const uint8_t> build_id() const { return build_id_; }
  // DT_SONAME, or "" (a program has none).
  const char* soname() const { return soname_; }
  // PT_GNU_EH_FRAME; empty when absent.
  std::span<const uint8_t> unwind_header() const { return unwind_header_; }

  std::span<const Elf64_Sym> symbols() const { return symbols_; }
  // DT_RELA: what the loader writes, or has written, into the object.
  std::span<const Elf64_Rela> relocations() const { return relocations_; }
  // Address of a symbol that the object defines, 0 if it defines none of this name.
  uintptr_t find_symbol(const char* name) const;
  // Defined or only referenced: a sanitizer-built program refers to __asan_init in another object.
  bool mentions_symbol(const char* name) const;

 private:
  bool read_segments(std::span<const Elf64_Phdr> headers, size_t readable_bytes);
  void read_notes(const Elf64_Phdr& header);
  void read_dynamic(const Elf64_Phdr& header);
  size_t count_symbols(uintptr_t gnu_hash, uintptr_t sysv_hash) const;
  uintptr_t table_address(uintptr_t value) const;
  const char* string_at(size_t offset) const;

  static constexpr size_t kSegmentsMax = 32;

  uintptr_t header_ = 0;
  uintptr_t bias_ = 0;
  uintptr_t low_ = 0;
  uintptr_t high_ = 0;
  std::array<Segment, kSegmentsMax> segments_{};
  size_t segment_count_ = 0;
  std::span<const uint8_t> build_id_{};
  std::span<const uint8_t> unwind_header_{};
  std::span<const Elf64_Sym> symbols_{};
  std::span<const Elf64_Rela> relocations_{};
  const char* strings_ = nullptr;
  size_t strings_bytes_ = 0;
  const char* soname_ = "";
};

}  // namespace weft::preload
