// elf_image.cc - reads the headers of a loaded object, distrusting each offset and count.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/elf_image.h"

#include "preload/patcher/memory.h"

namespace weft::preload {
namespace {

// Limits of what we accept; far above anything a linker writes.
constexpr size_t kProgramHeadersMax = 64;
constexpr size_t kHeaderBytesMax = kPageBytes;  // ELF header and program headers: the first page
// One rel32 must reach from any end of the object to a stub beyond the other end.
constexpr uintptr_t kSpanMax = uintptr_t{1} << 30;
constexpr size_t kBuildIdBytesMax = 64;
constexpr size_t kDynamicEntriesMax = 512;
constexpr size_t kNameBytesMax = 4096;

struct GnuHashHeader {
  uint32_t bucket_count;
  uint32_t symbol_offset;
  uint32_t bloom_words;
  uint32_t bloom_shift;
};

bool acceptable(const Elf64_Ehdr& header) {
  return header.e_ident[EI_MAG0] == ELFMAG0 && header.e_ident[EI_MAG1] == ELFMAG1 &&
         header.e_ident[EI_MAG2] == ELFMAG2 && header.e_ident[EI_MAG3] == ELFMAG3 &&
         header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_ident[EI_DATA] == ELFDATA2LSB &&
         header.e_machine == EM_X86_64 && (header.e_type == ET_DYN || header.e_type == ET_EXEC) &&
         header.e_phentsize == sizeof(Elf64_Phdr) && header.e_phnum != 0 &&
         header.e_phnum <= kProgramHeadersMax && header.e_phoff % alignof(Elf64_Phdr) == 0 &&
         header.e_phoff <= kHeaderBytesMax &&
         header.e_phnum * sizeof(Elf64_Phdr) <= kHeaderBytesMax - header.e_phoff;
}

}  // namespace

bool ElfImage::parse(const void* elf_header, size_t readable_bytes, ElfImage& out) {
  out = ElfImage{};
  if (readable_bytes < kHeaderBytesMax) return false;
  const auto address = reinterpret_cast<uintptr_t>(elf_header);
  if (address == 0 || address % kPageBytes != 0) return false;
  const auto& header = *static_cast<const Elf64_Ehdr*>(elf_header);
  if (!acceptable(header)) return false;
  const std::span<const Elf64_Phdr> headers(
      reinterpret_cast<const Elf64_Phdr*>(address + header.e_phoff), header.e_phnum);
  out.header_ = address;
  if (!out.read_segments(headers, readable_bytes)) return false;

  for (const Elf64_Phdr& entry : headers) {
    const uintptr_t begin = out.bias_ + entry.p_vaddr;
    if (entry.p_type == PT_NOTE) {
      out.read_notes(entry);
    } else if (entry.p_type == PT_DYNAMIC) {
      out.read_dynamic(entry);
    } else if (entry.p_type == PT_GNU_EH_FRAME && out.readable(begin, entry.p_memsz)) {
      out.unwind_header_ = {reinterpret_cast<const uint8_t*>(begin), entry.p_memsz};
    }
  }
  return true;
}

bool ElfImage::read_segments(std::span<const Elf64_Phdr> headers, size_t readable_bytes) {
  bool found_first = false;
  for (const Elf64_Phdr& entry : headers) {
    if (entry.p_type != PT_LOAD || entry.p_offset != 0 || found_first) continue;
    if (entry.p_vaddr % kPageBytes != 0) return false;
    bias_ = header_ - entry.p_vaddr;
    found_first = true;
  }
  if (!found_first) return false;

  low_ = UINTPTR_MAX;
  for (const Elf64_Phdr& entry : headers) {
    if (entry.p_type != PT_LOAD || entry.p_memsz == 0) continue;
    const uintptr_t begin = bias_ + entry.p_vaddr;
    if (segment_count_ == kSegmentsMax || entry.p_filesz > entry.p_memsz || begin < header_ ||
        entry.p_memsz > kSpanMax || begin - header_ > kSpanMax ||
        begin - header_ > readable_bytes || entry.p_memsz > readable_bytes - (begin - header_)) {
      return false;
    }
    segments_[segment_count_++] = {begin, begin + entry.p_filesz, entry.p_flags};
    if (begin < low_) low_ = begin;
    if (begin + entry.p_memsz > high_) high_ = begin + entry.p_memsz;
  }
  return high_ - low_ <= kSpanMax;
}

const Segment* ElfImage::code_segment(uintptr_t address, size_t bytes) const {
  for (const Segment& segment : segments()) {
    const bool code = (segment.flags & PF_X) != 0 && (segment.flags & PF_R) != 0;
    if (code && segment.contains(address, bytes)) return &segment;
  }
  return nullptr;
}

bool ElfImage::readable(uintptr_t address, size_t bytes) const {
  for (const Segment& segment : segments()) {
    if ((segment.flags & PF_R) != 0 && segment.contains(address, bytes)) return true;
  }
  return false;
}

void ElfImage::read_notes(const Elf64_Phdr& header) {
  uintptr_t at = bias_ + header.p_vaddr;
  size_t left = header.p_memsz;
  const size_t unit = header.p_align == 8 ? 8 : 4;
  if (at % 4 != 0 || !readable(at, left)) return;
  while (left >= sizeof(Elf64_Nhdr)) {
    const auto& note = *reinterpret_cast<const Elf64_Nhdr*>(at);
    const size_t name = align_up(size_t{note.n_namesz}, 4);
    const size_t start = align_up(sizeof note + name, unit);
    const size_t whole = start + align_up(size_t{note.n_descsz}, unit);
    if (whole > left) return;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && note.n_descsz != 0 &&
        note.n_descsz <= kBuildIdBytesMax &&
        same_text(reinterpret_cast<const char*>(at + sizeof note), "GNU", 4)) {
      build_id_ = {reinterpret_cast<const uint8_t*>(at + start), note.n_descsz};
      return;
    }
    at += whole;
    left -= whole;
  }
}

// glibc's loader adds the bias to most pointers of the dynamic section, other loaders do not.
uintptr_t ElfImage::table_address(uintptr_t value) const {
  if (value >= low_ && value < high_) return value;
  const uintptr_t moved = value + bias_;
  return moved >= low_ && moved < high_ ? moved : 0;
}

void ElfImage::read_dynamic(const Elf64_Phdr& header) {
  const uintptr_t begin = bias_ + header.p_vaddr;
  if (begin % alignof(Elf64_Dyn) != 0 || !readable(begin, header.p_memsz)) return;
  size_t count = header.p_memsz / sizeof(Elf64_Dyn);
  if (count > kDynamicEntriesMax) count = kDynamicEntriesMax;
  const std::span<const Elf64_Dyn> entries(reinterpret_cast<const Elf64_Dyn*>(begin), count);
  uintptr_t symbols = 0;
  uintptr_t strings = 0;
  uintptr_t gnu_hash = 0;
  uintptr_t sysv_hash = 0;
  uintptr_t relocations = 0;
  size_t relocation_bytes = 0;
  size_t soname_offset = 0;
  bool has_soname = false;
  for (const Elf64_Dyn& entry : entries) {
    if (entry.d_tag == DT_NULL) break;
    switch (entry.d_tag) {
      case DT_SYMTAB:
        symbols = table_address(entry.d_un.d_ptr);
        break;
      case DT_STRTAB:
        strings = table_address(entry.d_un.d_ptr);
        break;
      case DT_STRSZ:
        strings_bytes_ = entry.d_un.d_val;
        break;
      case DT_GNU_HASH:
        gnu_hash = table_address(entry.d_un.d_ptr);
        break;
      case DT_HASH:
        sysv_hash = table_address(entry.d_un.d_ptr);
        break;
      case DT_RELA:
        relocations = table_address(entry.d_un.d_ptr);
        break;
      case DT_RELASZ:
        relocation_bytes = entry.d_un.d_val;
        break;
      case DT_SONAME:
        soname_offset = entry.d_un.d_val;
        has_soname = true;
        break;
      default:
        break;
    }
  }
  if (relocations != 0 && relocations % alignof(Elf64_Rela) == 0 &&
      readable(relocations, relocation_bytes)) {
    relocations_ = {reinterpret_cast<const Elf64_Rela*>(relocations),
                    relocation_bytes / sizeof(Elf64_Rela)};
  }
  if (strings == 0 || !readable(strings, strings_bytes_)) return;
  strings_ = reinterpret_cast<const char*>(strings);
  if (has_soname) soname_ = string_at(soname_offset);
  if (symbols == 0 || symbols % alignof(Elf64_Sym) != 0) return;
  const size_t symbol_count = count_symbols(gnu_hash, sysv_hash);
  if (readable(symbols, symbol_count * sizeof(Elf64_Sym))) {
    symbols_ = {reinterpret_cast<const Elf64_Sym*>(symbols), symbol_count};
  }
}

// The dynamic symbol table does not say its own length: the hash tables do.
size_t ElfImage::count_symbols(uintptr_t gnu_hash, uintptr_t sysv_hash) const {
  if (sysv_hash != 0 && sysv_hash % 4 == 0 && readable(sysv_hash, 8)) {
    return reinterpret_cast<const uint32_t*>(sysv_hash)[1];  // nchain
  }
  if (gnu_hash == 0 || gnu_hash % 8 != 0 || !readable(gnu_hash, sizeof(GnuHashHeader))) return 0;
  const auto& header = *reinterpret_cast<const GnuHashHeader*>(gnu_hash);
  const uintptr_t buckets = gnu_hash + sizeof header + uintptr_t{header.bloom_words} * 8;
  const uintptr_t chains = buckets + uintptr_t{header.bucket_count} * 4;
  if (!readable(buckets, uintptr_t{header.bucket_count} * 4)) return 0;
  uint32_t last = 0;
  for (uint32_t i = 0; i < header.bucket_count; ++i) {
    const uint32_t first = reinterpret_cast<const uint32_t*>(buckets)[i];
    if (first > last) last = first;
  }
  if (last < header.symbol_offset) return header.symbol_offset;
  // The chain of the last bucket ends with the last symbol; its end has the lowest bit set.
  for (uintptr_t i = last;; ++i) {
    const uintptr_t link = chains + (i - header.symbol_offset) * 4;
    if (!readable(link, 4)) return 0;
    if ((*reinterpret_cast<const uint32_t*>(link) & 1) != 0) return i + 1;
  }
}

const char* ElfImage::string_at(size_t offset) const {
  if (offset >= strings_bytes_) return "";
  const size_t left = strings_bytes_ - offset;
  const size_t bound = left < kNameBytesMax ? left : kNameBytesMax;
  return text_length(strings_ + offset, bound) == bound ? "" : strings_ + offset;
}

// Linear: asked a few times per process, and half of the interesting names are undefined symbols,
// which no hash table lists.
uintptr_t ElfImage::find_symbol(const char* name) const {
  for (const Elf64_Sym& symbol : symbols_) {
    if (symbol.st_shndx != SHN_UNDEF && symbol.st_value != 0 &&
        same_text(string_at(symbol.st_name), name, kNameBytesMax)) {
      return bias_ + symbol.st_value;
    }
  }
  return 0;
}

bool ElfImage::mentions_symbol(const char* name) const {
  for (const Elf64_Sym& symbol : symbols_) {
    if (same_text(string_at(symbol.st_name), name, kNameBytesMax)) return true;
  }
  return false;
}

}  // namespace weft::preload
