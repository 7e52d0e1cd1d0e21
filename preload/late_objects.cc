// late_objects.cc - patching what dlopen brings (late_objects.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/late_objects.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "platform/linux/system_call.h"
#include "scheduler/lock.h"
#include "scheduler/text.h"

namespace weft::preload {
namespace {

// The loader maps one object at a time under its lock; a few more may be mapped by programs that
// load code themselves.
constexpr int kMax = 8;

struct Noted {
  uintptr_t header = 0;
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

// Where the object's first bytes are, if the mapping is laid out as its file is: true of what ld.so
// maps, and checked.
uintptr_t header_of(uintptr_t address, uint64_t file_offset) {
  const uintptr_t header = address - file_offset;
  if (file_offset > address) return 0;
  // The page may not be mapped: ask the kernel to read it.
  unsigned char bytes[SELFMAG] = {};
  struct {
    void* base;
    size_t length;
  } local{bytes, sizeof bytes}, remote{reinterpret_cast<void*>(header), sizeof bytes};
  const long self = platform::system_call(SYS_getpid);
  const long copied = platform::system_call(SYS_process_vm_readv, self,
                                            platform::address_of(&local), 1,
                                            platform::address_of(&remote), 1, 0);
  const bool is_elf = copied == SELFMAG && bytes[0] == ELFMAG0 && bytes[1] == ELFMAG1 &&
                      bytes[2] == ELFMAG2 && bytes[3] == ELFMAG3;
  return is_elf ? header : 0;
}

// The path behind the descriptor, for reports.
void read_name(int fd, char (&name)[kImageNameBytes]) {
  Text<64> link;
  link.append("/proc/self/fd/").append_number(fd);
  const long length =
      platform::system_call(SYS_readlinkat, AT_FDCWD, platform::address_of(link.c_str()),
                            platform::address_of(name), sizeof name - 1);
  name[length > 0 ? length : 0] = 0;
}

uintptr_t take_noted(int fd) {
  LockGuard guard(g_late.lock);
  for (Noted& noted : g_late.noted) {
    if (noted.fd != fd) continue;
    noted.fd = -1;
    g_late.count.fetch_sub(1, std::memory_order_relaxed);
    return noted.header;
  }
  return 0;
}

}  // namespace

void set_late_object_options(const PatchOptions& options) { g_late.options = options; }

void note_executable_mapping(uintptr_t address, size_t, int fd, uint64_t file_offset) {
  const uintptr_t header = header_of(address, file_offset);
  if (header == 0) return;
  LockGuard guard(g_late.lock);
  Noted& noted = g_late.noted[g_late.next++ % kMax];
  if (noted.fd < 0) g_late.count.fetch_add(1, std::memory_order_relaxed);
  noted = {header, fd};
}

void patch_mapped_object(int fd) {
  if (g_late.count.load(std::memory_order_relaxed) == 0) return;
  const uintptr_t header = take_noted(fd);
  if (header == 0) return;
  char name[kImageNameBytes];
  read_name(fd, name);
  const ImageRef image{reinterpret_cast<const void*>(header), name, false};
  PatchReport report = {};
  LockGuard guard(g_late.patching);
  patch_images({&image, 1}, g_late.options, report);
}

}  // namespace weft::preload
