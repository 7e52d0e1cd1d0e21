// elf_file.cc - reading program headers, the dynamic section, notes and section names (elf_file.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/elf_file.h"

#include <algorithm>
#include <cstring>

namespace weft::cli {
namespace {

std::string_view c_string(std::string_view table, uint64_t offset) {
  if (offset >= table.size()) return {};
  table.remove_prefix(offset);
  return table.substr(0, table.find('\0'));
}

uint64_t align4(uint64_t size) {
  return (size + 3) & ~uint64_t{3};
}

}  // namespace

bool ElfFile::has_magic(std::string_view bytes) {
  return bytes.substr(0, SELFMAG) == std::string_view(ELFMAG, SELFMAG);
}

bool ElfFile::unsupported_machine(std::string_view bytes) {
  if (!has_magic(bytes) || bytes.size() < sizeof(Elf32_Ehdr)) return false;
  if (bytes[EI_CLASS] != ELFCLASS64 || bytes[EI_DATA] != ELFDATA2LSB) return true;
  Elf64_Half machine = 0;
  std::memcpy(&machine, bytes.data() + offsetof(Elf64_Ehdr, e_machine), sizeof machine);
  return machine != EM_X86_64;
}

std::optional<ElfFile> ElfFile::parse(std::string_view bytes) {
  if (!has_magic(bytes) || unsupported_machine(bytes)) return std::nullopt;
  ElfFile file(bytes);
  if (!file.read_segments()) return std::nullopt;
  return file;
}

template <typename T>
std::optional<T> ElfFile::at(uint64_t offset) const {
  const std::string_view source = range(offset, sizeof(T));
  if (source.size() != sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, source.data(), sizeof value);
  return value;
}

std::string_view ElfFile::range(uint64_t offset, uint64_t size) const {
  if (offset > bytes_.size() || size > bytes_.size() - offset) return {};
  return bytes_.substr(offset, size);
}

std::string_view ElfFile::range_at_address(uint64_t address, uint64_t size) const {
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr) continue;
    if (address - segment.p_vaddr >= segment.p_filesz) continue;
    return range(segment.p_offset + (address - segment.p_vaddr), size);
  }
  return {};
}

bool ElfFile::read_segments() {
  const auto header = at<Elf64_Ehdr>(0);
  if (!header || header->e_phentsize != sizeof(Elf64_Phdr)) return false;
  header_ = *header;
  for (uint64_t i = 0; i < header_.e_phnum; i++) {
    const auto segment = at<Elf64_Phdr>(header_.e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) return false;
    segments_.push_back(*segment);
  }
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type == PT_INTERP) {
      interpreter_ = c_string(range(segment.p_offset, segment.p_filesz), 0);
    }
    if (segment.p_type == PT_DYNAMIC) read_dynamic(segment);
  }
  return true;
}

void ElfFile::read_dynamic(const Elf64_Phdr& segment) {
  uint64_t strings_address = 0;
  uint64_t strings_bytes = 0;
  std::vector<uint64_t> needed;
  for (uint64_t i = 0; i < segment.p_filesz / sizeof(Elf64_Dyn); i++) {
    const auto entry = at<Elf64_Dyn>(segment.p_offset + i * sizeof(Elf64_Dyn));
    if (!entry || entry->d_tag == DT_NULL) break;
    if (entry->d_tag == DT_STRTAB) strings_address = entry->d_un.d_ptr;
    if (entry->d_tag == DT_STRSZ) strings_bytes = entry->d_un.d_val;
    if (entry->d_tag == DT_NEEDED) needed.push_back(entry->d_un.d_val);
  }
  dynamic_strings_ = range_at_address(strings_address, strings_bytes);
  for (const uint64_t offset : needed) needed_.emplace_back(c_string(dynamic_strings_, offset));
}

bool ElfFile::names_dynamic_symbol(std::string_view name) const {
  std::string terminated(name);
  terminated += '\0';
  return dynamic_strings_.find(terminated) != std::string_view::npos;
}

bool ElfFile::has_section(std::string_view name) const {
  const auto section_at = [this](uint64_t index) {
    return at<Elf64_Shdr>(header_.e_shoff + index * sizeof(Elf64_Shdr));
  };
  if (header_.e_shoff == 0 || header_.e_shentsize != sizeof(Elf64_Shdr)) return false;
  const auto names = section_at(header_.e_shstrndx);
  if (!names) return false;
  const std::string_view table = range(names->sh_offset, names->sh_size);
  for (uint64_t i = 0; i < header_.e_shnum; i++) {
    const auto section = section_at(i);
    if (section && c_string(table, section->sh_name) == name) return true;
  }
  return false;
}

bool ElfFile::has_note(std::string_view owner, uint32_t type) const {
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type != PT_NOTE) continue;
    const uint64_t end = segment.p_offset + segment.p_filesz;
    uint64_t offset = segment.p_offset;
    while (offset < end) {
      const auto note = at<Elf64_Nhdr>(offset);
      if (!note) break;
      const std::string_view name = range(offset + sizeof(Elf64_Nhdr), note->n_namesz);
      if (note->n_type == type && c_string(name, 0) == owner) return true;
      offset += sizeof(Elf64_Nhdr) + align4(note->n_namesz) + align4(note->n_descsz);
    }
  }
  return false;
}

}  // namespace weft::cli
