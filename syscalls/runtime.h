// runtime.h - the process as a whole: workers started and stopped, and what the floors agreed on.
// Life: dormant (nothing taken over, or the child of a fork) -> live (threads are fibers). There is
// no way back but fork: a live process stays live.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "scheduler/scheduler.h"
#include "syscalls/thread.h"

namespace weft {

struct RuntimeOptions {
  uint32_t workers = 0;  // 0: one per usable CPU
  uint32_t blocking_max = 0;  // 0: the default
  bool stats = false;
  bool follow = true;    // programs that this one executes are served too
};

// What the preload floor does for call bodies. All set before start_runtime().
struct RuntimeHooks {
  // A file was mapped executable; a descriptor is about to be closed. Neither may park.
  void (*executable_mapped)(uintptr_t address, size_t bytes, int fd, uint64_t offset) = nullptr;
  void (*descriptor_closing)(int fd) = nullptr;
  // Continues a fiber at the site its frame came from, with the frame's registers. Never returns.
  void (*resume_frame)(CallFrame* frame) = nullptr;
  // A call's body met a fault on the program's memory: changes the registers of the interrupted
  // context so that the call of `frame` answers EFAULT.
  void (*abandon_call)(CallFrame* frame, uint64_t& rip, uint64_t& rsp, uint64_t& rbp) = nullptr;
  // A new kernel thread of the runtime runs: Syscall User Dispatch for it, where that is wanted.
  void (*kernel_thread_started)(Worker& worker) = nullptr;
  // The runtime is to start once more in a forked child. Returns whether it is live now.
  bool (*restart)() = nullptr;
};

struct Runtime {
  bool live = false;  // written with one kernel thread in the process
  int process_id = 0;
  RuntimeOptions options;
  RuntimeHooks hooks;
  Thread* main_thread = nullptr;
  // SIGSYS is the runtime's (Syscall User Dispatch): the program's action for it is only recorded.
  bool keeps_sigsys = false;
  // The rseq area of the program's first thread, registered by ld.so; 0: none.
  uintptr_t rseq_area = 0;
  Scheduler scheduler;
};
extern Runtime g_runtime;

// Makes the calling kernel thread worker 0 and the code that runs on it fiber 0, and starts the
// other workers. The process has no other kernel thread. Null, or why it cannot be (one phrase).
const char* start_runtime();

// A worker for one bound fiber, on a kernel thread of its own. Null: no memory or no thread.
Worker* start_bound_worker();

// In the child of fork(): the runtime is dormant, `survivor` the only thread.
void forget_runtime(Thread& survivor);

// Writes what --stats asked for to standard error.
void print_stats();

// What the runtime's workers always block in the kernel: nothing. All of it: worker_signal_mask().
inline constexpr uint64_t kWorkerSignalMask = 0;
void set_kernel_mask(uint64_t mask);

}  // namespace weft
