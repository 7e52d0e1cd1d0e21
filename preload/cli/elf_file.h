// elf_file.h - what the command needs to know of a program file: is it ELF, who loads it, what does
// it link, which notes and sections does it carry. Every offset read is checked against the file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <elf.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::cli {

class ElfFile {
 public:
  // `bytes`: the whole file; must begin with the ELF magic. Nothing for a file that is cut short
  // or not a 64-bit x86-64 program; `unsupported_machine` tells those apart.
  static std::optional<ElfFile> parse(std::string_view bytes);
  static bool has_magic(std::string_view bytes);
  // True for an intact ELF header of another machine or word size.
  static bool unsupported_machine(std::string_view bytes);

  // The loader named by PT_INTERP; empty for a statically linked program.
  const std::string& interpreter() const { return interpreter_; }
  const std::vector<std::string>& needed() const { return needed_; }
  // Whether the dynamic string table holds `name` as a whole name or as the end of one (linkers
  // share tails, so a name that is the end of a longer one has no entry of its own).
  bool names_dynamic_symbol(std::string_view name) const;
  bool has_section(std::string_view name) const;
  // Whether a PT_NOTE segment holds a note of this owner and type.
  bool has_note(std::string_view owner, uint32_t type) const;

 private:
  explicit ElfFile(std::string_view bytes) : bytes_(bytes) {}
  template <typename T>
  std::optional<T> at(uint64_t offset) const;
  std::string_view range(uint64_t offset, uint64_t size) const;
  std::string_view range_at_address(uint64_t address, uint64_t size) const;
  bool read_segments();
  void read_dynamic(const Elf64_Phdr& segment);

  std::string_view bytes_;
  Elf64_Ehdr header_{};
  std::vector<Elf64_Phdr> segments_;
  std::string interpreter_;
  std::vector<std::string> needed_;
  std::string_view dynamic_strings_;
};

}  // namespace weft::cli
