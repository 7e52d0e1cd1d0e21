// target.cc - finding a program and reading from its file why weft cannot serve it (target.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/target.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "preload/cli/elf_file.h"
#include "preload/cli/errors.h"
#include "preload/cli/text.h"

namespace weft::cli {
namespace {

constexpr const char* kDefaultPath = "/bin:/usr/bin";
constexpr uint32_t kGoBuildIdNote = 4;
// A script may name a script (Linux follows four): a bound, so that a cycle ends.
constexpr int kScriptDepthMax = 4;

// A whole file mapped for reading: programs can be large, and only a few pages are looked at.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    struct stat status {};
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
      size_ = static_cast<size_t>(status.st_size);
      start_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    close(fd);
  }
  ~MappedFile() {
    if (start_ != MAP_FAILED) munmap(start_, size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  bool readable() const { return start_ != MAP_FAILED; }
  std::string_view bytes() const { return {static_cast<const char*>(start_), size_}; }

 private:
  void* start_ = MAP_FAILED;
  size_t size_ = 0;
};

[[noreturn]] void fail_to_execute(const std::string& command, int error) {
  const bool missing = error == ENOENT || error == ENOTDIR;
  throw Failure(command + ": " + std::strerror(error),
                missing ? kStatusNotFound : kStatusCannotExecute);
}

// 0 if the file can be executed, else the errno of execve(2).
int execution_error(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return errno;
  if (!S_ISREG(status.st_mode)) return EACCES;
  return access(path.c_str(), X_OK) == 0 ? 0 : errno;
}

std::optional<std::string> privileged(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  if ((status.st_mode & S_ISUID) != 0) return "is set-uid: the loader ignores LD_PRELOAD";
  // Without group execution the bit once meant mandatory locking, not privilege.
  if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0) {
    return "is set-gid: the loader ignores LD_PRELOAD";
  }
  if (getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    return "has file capabilities: the loader ignores LD_PRELOAD";
  }
  return std::nullopt;
}

std::optional<std::string> sanitizer_of(const ElfFile& elf) {
  struct Sanitizer {
    const char* name;
    const char* library;
    const char* symbol;
  };
  constexpr Sanitizer kSanitizers[] = {{"AddressSanitizer", "libasan.so", "__asan_init"},
                                       {"ThreadSanitizer", "libtsan.so", "__tsan_init"},
                                       {"LeakSanitizer", "liblsan.so", "__lsan_init"},
                                       {"MemorySanitizer", "libmsan.so", "__msan_init"}};
  for (const Sanitizer& sanitizer : kSanitizers) {
    bool found = elf.names_dynamic_symbol(sanitizer.symbol);
    for (const std::string& library : elf.needed()) {
      found = found || library.rfind(sanitizer.library, 0) == 0;
    }
    if (found) return std::string("is built with ") + sanitizer.name;
  }
  return std::nullopt;
}

std::optional<std::string> why_elf_unserved(std::string_view bytes) {
  if (ElfFile::unsupported_machine(bytes)) return "is not an x86-64 program";
  const std::optional<ElfFile> elf = ElfFile::parse(bytes);
  if (!elf) return "is not an intact ELF program";
  // Before the loader: a Go program is usually static as well, and this is the better reason.
  if (elf->has_note("Go", kGoBuildIdNote) || elf->has_section(".note.go.buildid") ||
      elf->has_section(".gopclntab")) {
    return "is a Go program: it schedules its own goroutines";
  }
  if (elf->interpreter().empty()) return "is statically linked: nothing can be preloaded";
  const std::string loader = std::filesystem::path(elf->interpreter()).filename();
  if (loader.rfind("ld-musl-", 0) == 0) return "uses musl: weft serves glibc programs";
  if (loader.rfind("ld-linux", 0) != 0) {
    return "uses the loader " + elf->interpreter() + ": weft serves glibc programs";
  }
  return sanitizer_of(*elf);
}

// The program that runs a script, from its first line; empty when the file is not a script.
std::string script_interpreter(std::string_view bytes) {
  if (bytes.substr(0, 2) != "#!") return {};
  const std::string_view line = trim(bytes.substr(2, bytes.find('\n') - 2));
  std::string program(line.substr(0, line.find_first_of(" \t")));
  const std::string argument(trim(line.substr(program.size())));
  // `#!/usr/bin/env NAME`: env runs NAME, and that is what must be served.
  const bool names_command = argument.find_first_of(" \t=-") == std::string::npos;
  if (std::filesystem::path(program).filename() == "env" && !argument.empty() && names_command) {
    try {
      return find_program(argument);
    } catch (const Failure&) {
      // env itself will say that there is no such program.
      return program;
    }
  }
  return program;
}

}  // namespace

std::string find_program(const std::string& command) {
  if (command.find('/') != std::string::npos) {
    const int error = execution_error(command);
    if (error != 0) fail_to_execute(command, error);
    return command;
  }
  const char* const path = std::getenv("PATH");
  const std::string search = path != nullptr ? path : kDefaultPath;
  int error = ENOENT;
  for (const std::string_view folder : split(search, ":")) {
    std::string candidate(folder.empty() ? "." : folder);
    candidate += '/';
    candidate += command;
    const int reason = command.empty() ? ENOENT : execution_error(candidate);
    if (reason == 0) return candidate;
    // As execvp(3): a forbidden file is remembered, the search goes on.
    if (reason == EACCES) error = EACCES;
  }
  fail_to_execute(command, error);
}

std::optional<std::string> why_unserved(const std::string& path) {
  std::string program = path;
  for (int depth = 0; depth <= kScriptDepthMax; depth++) {
    // Of a script's own set-uid bit the kernel takes no notice; of its interpreter's it does.
    const MappedFile file(program);
    const bool is_script = file.readable() && file.bytes().substr(0, 2) == "#!";
    std::optional<std::string> reason;
    if (!is_script) reason = privileged(program);
    // A program that we may run but not read: the loader will decide.
    if (!reason && file.readable() && ElfFile::has_magic(file.bytes())) {
      reason = why_elf_unserved(file.bytes());
    }
    if (reason && depth > 0) return "is run by " + program + ", which " + *reason;
    if (!is_script) return reason;
    program = script_interpreter(file.bytes());
  }
  return std::nullopt;
}

}  // namespace weft::cli
