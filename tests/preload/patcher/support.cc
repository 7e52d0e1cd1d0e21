// support.cc - see support.h.
// SPDX-License-Identifier: Apache-2.0
#include "support.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>

namespace weft::preload::test {
namespace {

bool ends_with(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

template <typename T>
std::optional<T> at(const std::string& file, uint64_t offset) {
  if (offset > file.size() || file.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

std::string bytes_of(const std::string& file, const Elf64_Shdr& section) {
  if (section.sh_type == SHT_NOBITS || section.sh_offset > file.size() ||
      section.sh_size > file.size() - section.sh_offset) {
    return {};
  }
  return file.substr(section.sh_offset, section.sh_size);
}

void add_symbols(const std::string& table, std::vector<uint64_t>& starts) {
  for (size_t i = 0; i + sizeof(Elf64_Sym) <= table.size(); i += sizeof(Elf64_Sym)) {
    const auto symbol = *at<Elf64_Sym>(table, i);
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_GNU_IFUNC)) {
      starts.push_back(symbol.st_value);
    }
  }
}

void add_frames(const std::string& table, uint64_t address, std::vector<uint64_t>& starts) {
  if (table.size() < 12 || static_cast<uint8_t>(table[3]) != 0x3b) return;
  const uint32_t count = *at<uint32_t>(table, 8);
  for (uint32_t i = 0; i < count; ++i) {
    const auto offset = at<int32_t>(table, 12 + uint64_t{i} * 8);
    if (!offset) return;
    starts.push_back(address + static_cast<uint64_t>(int64_t{*offset}));
  }
}

}  // namespace

std::optional<LoadedObject> find_loaded(const std::string& suffix) {
  struct Search {
    const std::string& suffix;
    std::optional<LoadedObject> found;
  } search{suffix, std::nullopt};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& s = *static_cast<Search*>(data);
        const std::string name = info->dlpi_name;
        if (s.suffix.empty() ? !name.empty() : !ends_with(name, s.suffix)) return 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD || header.p_offset != 0) continue;
          s.found = LoadedObject{info->dlpi_addr + header.p_vaddr, name};
          return 1;
        }
        return 0;
      },
      &search);
  return search.found;
}

std::optional<LoadedObject> load(const std::string& name) {
  if (dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) return std::nullopt;
  return find_loaded(name.substr(name.rfind('/') + 1));
}

std::optional<CodeFile> read_code(const std::string& path) {
  const std::string file = read_text(path);
  const auto header = at<Elf64_Ehdr>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64) {
    return std::nullopt;
  }
  std::vector<Elf64_Shdr> sections;
  for (unsigned i = 0; i < header->e_shnum; ++i) {
    const auto section = at<Elf64_Shdr>(file, header->e_shoff + uint64_t{i} * sizeof(Elf64_Shdr));
    if (!section) return std::nullopt;
    sections.push_back(*section);
  }
  if (header->e_shstrndx >= sections.size()) return std::nullopt;
  const std::string names = bytes_of(file, sections[header->e_shstrndx]);
  CodeFile out;
  for (const Elf64_Shdr& section : sections) {
    const std::string name = section.sh_name < names.size() ? names.c_str() + section.sh_name : "";
    if (section.sh_type == SHT_PROGBITS && (section.sh_flags & SHF_EXECINSTR) != 0) {
      const std::string bytes = bytes_of(file, section);
      out.sections.push_back({section.sh_addr, {bytes.begin(), bytes.end()}});
    } else if (section.sh_type == SHT_SYMTAB || section.sh_type == SHT_DYNSYM) {
      add_symbols(bytes_of(file, section), out.starts);
    } else if (name == ".eh_frame_hdr") {
      add_frames(bytes_of(file, section), section.sh_addr, out.starts);
    }
  }
  std::sort(out.starts.begin(), out.starts.end());
  out.starts.erase(std::unique(out.starts.begin(), out.starts.end()), out.starts.end());
  return out;
}

MappedObject::MappedObject(const std::string& path) {
  const std::string file = read_text(path);
  const auto header = at<Elf64_Ehdr>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return;
  std::vector<Elf64_Phdr> loads;
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    const auto entry = at<Elf64_Phdr>(file, header->e_phoff + uint64_t{i} * sizeof(Elf64_Phdr));
    if (entry && entry->p_type == PT_LOAD) loads.push_back(*entry);
  }
  if (loads.empty()) return;
  const uint64_t low = loads.front().p_vaddr & ~uint64_t{kPageBytes - 1};
  bytes_ = align_up(loads.back().p_vaddr + loads.back().p_memsz - low, kPageBytes);
  void* const base =
      mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return;
  base_ = base;
  for (const Elf64_Phdr& entry : loads) {
    std::memcpy(static_cast<char*>(base) + (entry.p_vaddr - low), file.data() + entry.p_offset,
                entry.p_filesz);
  }
}

MappedObject::~MappedObject() {
  if (base_ != nullptr) munmap(base_, bytes_);
}

std::set<uint64_t> objdump_syscalls(const std::string& path) {
  std::set<uint64_t> addresses;
  const std::string command = "objdump -d --no-show-raw-insn '" + path + "' 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (pipe == nullptr) return addresses;
  char line[512];
  while (std::fgets(line, sizeof line, pipe.get()) != nullptr) {
    const char* const tab = std::strchr(line, '\t');
    if (tab != nullptr && std::strncmp(tab + 1, "syscall", 7) == 0) {
      addresses.insert(std::strtoull(line, nullptr, 16));
    }
  }
  return addresses;
}

std::string read_text(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "weft-patcher-XXXXXX").string();
  if (mkdtemp(name.data()) != nullptr) path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

uint64_t test_seed() {
  if (const char* const seed = std::getenv("WEFT_SEED")) return std::strtoull(seed, nullptr, 0);
  return std::random_device{}();
}

}  // namespace weft::preload::test
