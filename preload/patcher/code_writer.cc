// code_writer.cc - the two ways of writing code.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/code_writer.h"

#include <fcntl.h>

#include "preload/patcher/memory.h"

namespace weft::preload {

using platform::address_of;
using platform::system_call;

CodeWriter::CodeWriter(bool protection_only) {
  if (protection_only) return;
  memory_file_ =
      system_call(SYS_openat, AT_FDCWD, address_of("/proc/self/mem"), O_RDWR | O_CLOEXEC);
}

CodeWriter::~CodeWriter() {
  if (memory_file_ >= 0) system_call(SYS_close, memory_file_);
}

long CodeWriter::write(uintptr_t address, const uint8_t* bytes, size_t count) {
  if (memory_file_ >= 0) {
    const long written = system_call(SYS_pwrite64, memory_file_, address_of(bytes),
                                     static_cast<long>(count), static_cast<long>(address));
    if (written == static_cast<long>(count)) return 0;
  }
  return write_by_protection(address, bytes, count);
}

long CodeWriter::write_by_protection(uintptr_t address, const uint8_t* bytes, size_t count) {
  const uintptr_t begin = align_down(address, kPageBytes);
  const auto length = static_cast<long>(align_up(address + count, kPageBytes) - begin);
  const long opened =
      system_call(SYS_mprotect, static_cast<long>(begin), length, PROT_READ | PROT_WRITE);
  if (opened != 0) return opened;
  __builtin_memcpy(reinterpret_cast<void*>(address), bytes, count);
  return system_call(SYS_mprotect, static_cast<long>(begin), length, PROT_READ | PROT_EXEC);
}

}  // namespace weft::preload
