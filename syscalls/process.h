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

// The process ends: the robust mutexes that its fibers hold are told to other processes, as the
// kernel does for threads that it knows (get_robust_list(2)).
void release_robust_locks_of_all();

}  // namespace weft
