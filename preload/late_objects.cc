// late_objects.cc - patching what dlopen brings (late_objects.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/late_objects.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "platform/linux/system_call.h"
#include "scheduler/lock.h"
#include "scheduler/text.h"

namespace weft::preload {
namespace {

using platform::address_of;
using platform::system_call;

// The loader maps one object at a time under its lock; a few more may be mapped by programs that
// load code themselves.
constexpr int kMax = 8;

struct Noted {
  uintptr_t address = 0;  // of the mapping, which starts at `file_offset`
  uint64_t file_offset = 0;
  int fd = -1;
};

struct LateObjects {
  SpinLock lock;
  Noted noted[kMax] WEFT_GUARDED_BY(lock) = {};
  uint32_t next WEFT_GUARDED_BY(lock) = 0;
  std::atomic<uint32_t> count{0};  // relaxed: so that a close without a mapping costs a load
  SpinLock patching;               // patch_images() is not for two at a time
  PatchOptions options = {};       // const after boot
};

constinit LateObjects g_late;

constexpr uintptr_t kPageMask = 4095;

// Copies from the file. Does not move its position.
bool copy(int fd, uint64_t offset, void* target, size_t bytes) {
  return system_call(SYS_pread64, fd, address_of(target), static_cast<long>(bytes),
                     static_cast<long>(offset)) == static_cast<long>(bytes);
}

// What the file says of the way in which a loader maps it.
class Layout {
 public:
  // False: it is no ELF object. Programs map files, and devices, for reasons of their own.
  bool read(int fd) {
    struct stat status = {};
    Elf64_Ehdr file = {};
    if (system_call(SYS_fstat, fd, address_of(&status)) != 0 || !S_ISREG(status.st_mode) ||
        !copy(fd, 0, &file, sizeof file) || file.e_ident[EI_MAG0] != ELFMAG0 ||
        file.e_ident[EI_MAG1] != ELFMAG1 || file.e_ident[EI_MAG2] != ELFMAG2 ||
        file.e_ident[EI_MAG3] != ELFMAG3 || file.e_phentsize != sizeof(Elf64_Phdr) ||
        file.e_phnum > kSegmentsMax ||
        !copy(fd, file.e_phoff, segments_, file.e_phnum * sizeof(Elf64_Phdr))) {
      return false;
    }
    count_ = file.e_phnum;
    for (size_t i = 0; i < count_; i++) {
      if (segments_[i].p_type != PT_LOAD) continue;
      first_ = segments_[i].p_vaddr & ~kPageMask;
      return segments_[i].p_offset == 0;
    }
    return false;
  }
  // Where the object's first bytes are, if the mapping is one of its executable segments; else 0.
  uintptr_t header_of(uintptr_t address, uint64_t file_offset) const {
    for (size_t i = 0; i < count_; i++) {
      const Elf64_Phdr& segment = segments_[i];
      if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0 &&
          (segment.p_offset & ~kPageMask) == file_offset) {
        return address - ((segment.p_vaddr & ~kPageMask) - first_);
      }
    }
    return 0;
  }
  // Whether every segment has something where it belongs.
  bool is_all_mapped(uintptr_t header) const {
    for (size_t i = 0; i < count_; i++) {
      const Elf64_Phdr& segment = segments_[i];
      if (segment.p_type != PT_LOAD || segment.p_filesz == 0) continue;
      const uintptr_t begin = header + (segment.p_vaddr & ~kPageMask) - first_;
      const uintptr_t end = header + segment.p_vaddr - first_ + segment.p_filesz;
      // msync(2): ENOMEM if any page is not mapped; MS_ASYNC does nothing else.
      if (system_call(SYS_msync, static_cast<long>(begin), static_cast<long>(end - begin),
                      MS_ASYNC) != 0) {
        return false;
      }
    }
    return true;
  }

 private:
  static constexpr size_t kSegmentsMax = 32;

  uintptr_t first_ = 0;  // the lowest address in the file's own terms
  size_t count_ = 0;
  Elf64_Phdr segments_[kSegmentsMax];
};

// Whether memory holds what the file does. It may not be mapped: the kernel reads it.
bool same_as_file(const Noted& noted) {
  unsigned char mapped[16];
  unsigned char stored[16];
  struct {
    void* base;
    size_t length;
  } local{mapped, sizeof mapped},
      remote{reinterpret_cast<void*>(noted.address), sizeof mapped};
  const long copied = system_call(SYS_process_vm_readv, system_call(SYS_getpid),
                                  address_of(&local), 1, address_of(&remote), 1, 0);
  if (copied != static_cast<long>(sizeof mapped) ||
      !copy(noted.fd, noted.file_offset, stored, sizeof stored)) {
    return false;
  }
  for (size_t i = 0; i < sizeof mapped; i++) {
    if (mapped[i] != stored[i]) return false;
  }
  return true;
}

// The path behind the descriptor, for reports.
void read_name(int fd, char (&name)[kImageNameBytes]) {
  Text<64> link;
  link.append("/proc/self/fd/").append_number(fd);
  const long length = system_call(SYS_readlinkat, AT_FDCWD, address_of(link.c_str()),
                                  address_of(name), sizeof name - 1);
  name[length > 0 ? length : 0] = 0;
}

// Takes a note that was made for the descriptor. False: there is none.
bool take_noted(int fd, Noted& taken) {
  LockGuard guard(g_late.lock);
  for (Noted& noted : g_late.noted) {
    if (noted.fd != fd) continue;
    taken = noted;
    noted.fd = -1;
    g_late.count.fetch_sub(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

// Patches the object if the loader has mapped all of it: a library that was mapped as any file has
// its headers in memory, but not what they point to.
void patch(const Noted& noted) {
  Layout layout;
  if (!layout.read(noted.fd)) return;
  const uintptr_t header = layout.header_of(noted.address, noted.file_offset);
  if (header == 0 || !layout.is_all_mapped(header) || !same_as_file(noted)) return;
  char name[kImageNameBytes];
  read_name(noted.fd, name);
  const ImageRef image{reinterpret_cast<const void*>(header), name, false};
  PatchReport report = {};
  LockGuard guard(g_late.patching);
  patch_images({&image, 1}, g_late.options, report);
}

}  // namespace

void set_late_object_options(const PatchOptions& options) { g_late.options = options; }

void note_executable_mapping(uintptr_t address, size_t, int fd, uint64_t file_offset) {
  Layout layout;
  if (!layout.read(fd) || layout.header_of(address, file_offset) == 0) return;
  LockGuard guard(g_late.lock);
  Noted& noted = g_late.noted[g_late.next++ % kMax];
  if (noted.fd < 0) g_late.count.fetch_add(1, std::memory_order_relaxed);
  noted = {address, file_offset, fd};
}

void patch_mapped_object(int fd) {
  if (g_late.count.load(std::memory_order_relaxed) == 0) return;
  for (Noted noted; take_noted(fd, noted);) patch(noted);
}

}  // namespace weft::preload
