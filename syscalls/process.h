// process.h - what clone and its kin share: one request, whatever the call it came by.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syscalls/call_frame.h"

namespace weft {

struct CloneRequest {
  uint64_t flags = 0;
  uint64_t stack_pointer = 0;  // 0: the caller's
  int* parent_tid = nullptr;
  int* child_tid = nullptr;
  uint64_t thread_pointer = 0;
};

// CLONE_THREAD: a fiber that continues at the frame's site. Its id, or -errno.
Result spawn_thread(const CallFrame& frame, const CloneRequest& request);

// Gives the kernel the running fiber's signal mask, for a child or a new program to inherit; the
// gate takes it back at the fiber's next call.
void lend_mask_to_kernel();

}  // namespace weft
