// io_ops.h - completions for tests, spelled short, and a read or write that just parks for it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "scheduler/io_wait.h"

namespace weft::scheduler_test {

inline IoCompletion read_op(int fd, void* address, uint32_t length) {
  IoCompletion completion;
  completion.op.kind = platform::OpKind::read;
  completion.op.fd = fd;
  completion.op.address = reinterpret_cast<uintptr_t>(address);
  completion.op.length = length;
  return completion;
}

inline IoCompletion write_op(int fd, const void* address, uint32_t length) {
  IoCompletion completion = read_op(fd, nullptr, length);
  completion.op.kind = platform::OpKind::write;
  completion.op.address = reinterpret_cast<uintptr_t>(address);
  return completion;
}

// Parks until the operation is over. Returns bytes or -errno.
inline int64_t park_for(IoCompletion completion) {
  park_on(&completion, 1, platform::kForever, false, WaitReason::io);
  return completion.result;
}

}  // namespace weft::scheduler_test
