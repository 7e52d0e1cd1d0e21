// support.h - what the patcher's tests share: objects to look at, files mapped as a loader would,
// objdump's opinion, temporary folders.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "preload/patcher/elf_image.h"
#include "preload/patcher/memory.h"
#include "preload/patcher/site_plan.h"

namespace weft::preload::test {

// Where the dynamic loader has the object whose path ends with `suffix`; "" is the program itself.
struct LoadedObject {
  uintptr_t header;
  std::string path;
};
std::optional<LoadedObject> find_loaded(const std::string& suffix);
// dlopen()s the library for the rest of the process and finds it.
std::optional<LoadedObject> load(const std::string& name);

// The bytes of a file, its executable sections and the places where decoding may start.
struct CodeSection {
  uint64_t address;
  std::vector<uint8_t> bytes;
};
struct CodeFile {
  std::vector<CodeSection> sections;
  std::vector<uint64_t> starts;  // function symbols and frame descriptions, ascending
};
std::optional<CodeFile> read_code(const std::string& path);

// PT_LOAD segments of a file mapped side by side, without relocation and never to be executed.
class MappedObject {
 public:
  explicit MappedObject(const std::string& path);
  ~MappedObject();
  MappedObject(const MappedObject&) = delete;
  MappedObject& operator=(const MappedObject&) = delete;

  bool valid() const { return base_ != nullptr; }
  void* header() const { return base_; }
  size_t bytes() const { return bytes_; }

 private:
  void* base_ = nullptr;
  size_t bytes_ = 0;
};

// File addresses of the syscall instructions that `objdump -d` prints.
std::set<uint64_t> objdump_syscalls(const std::string& path);

std::string read_text(const std::string& path);

// A folder that is removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The seed of a random test: WEFT_SEED, else a new one. Printed by the caller on failure.
uint64_t test_seed();

// xorshift64*: the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed | 1) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1du;
  }
  size_t below(size_t bound) { return static_cast<size_t>(next() % bound); }

 private:
  uint64_t state_;
};

}  // namespace weft::preload::test
