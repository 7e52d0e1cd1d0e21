// code_writer.h - writes to memory that is mapped readable and executable.
// Through /proc/self/mem: the kernel writes, no protection changes, no mapping splits, and it works
// under PR_SET_MDWE. Where that is refused (not dumpable, proc_mem.force_override) the pages are
// made writable but not executable, written, and made executable again.
// Guarantee: no page is ever writable and executable at the same time.
// With the second way nobody may execute the pages meanwhile; the caller sees to that.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::preload {

class CodeWriter {
 public:
  // protection_only: never try /proc/self/mem.
  explicit CodeWriter(bool protection_only);
  ~CodeWriter();
  CodeWriter(const CodeWriter&) = delete;
  CodeWriter& operator=(const CodeWriter&) = delete;

  // Returns 0 or -errno; then nothing or a part was written.
  long write(uintptr_t address, const uint8_t* bytes, size_t count);

 private:
  long write_by_protection(uintptr_t address, const uint8_t* bytes, size_t count);

  long memory_file_ = -1;
};

}  // namespace weft::preload
