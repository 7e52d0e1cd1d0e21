// thread.h - a virtual kernel thread: a fiber with everything that Linux keeps per thread.
// Its id is above pid_max and below 2^30 (futex words keep 30 bits, futex(2)), unique among the
// living, and finds the thread by its index. Thread 0, the program's first, keeps the process id.
// Memory is type-stable: a dead thread's record is recycled as a thread, never unmapped.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "scheduler/fiber.h"
#include "scheduler/lock.h"
#include "scheduler/scheduler.h"
#include "syscalls/call_frame.h"
#include "syscalls/signal_queue.h"

namespace weft {

// 2^29: above every pid_max (at most 2^22), and with index and generation below 2^30.
inline constexpr int kFirstVirtualTid = 1 << 29;
inline constexpr unsigned kThreadIndexBits = 20;
inline constexpr uint32_t kMaxThreads = 1u << kThreadIndexBits;

struct AlternateStack {  // stack_t
  void* pointer = nullptr;
  int flags = 2;  // SS_DISABLE
  size_t bytes = 0;
};

struct Thread : Fiber {
  std::atomic<int> tid{0};  // 0: not alive. Release at birth, read by id lookups.
  uint32_t index = 0;       // const
  uint32_t generation = 0;
  int* clear_child_tid = nullptr;
  int exit_status = 0;  // set when it ends
  void* robust_list = nullptr;
  size_t robust_list_bytes = 0;

  // Signals. The mask is the thread's own to write; others read it to choose a target.
  std::atomic<uint64_t> signal_mask{0};
  std::atomic<uint64_t> wait_set{0};  // what sigtimedwait waits for
  SignalQueue pending;
  bool mask_to_restore = false;       // sigsuspend, ppoll, ...: saved_mask after the handlers ran
  uint64_t saved_mask = 0;
  AlternateStack alternate_stack;

  // The call whose body runs, and where its site's vector state lies if that was saved: a fault on a
  // pointer of the program's abandons the body. Set and cleared by the gate.
  CallFrame* call_frame = nullptr;
  void* saved_vectors = nullptr;
  // The deadline that the call had when it was first tried (call_deadline()); 0: none yet.
  int64_t kept_deadline_ns = 0;
  // The kernel thread that waits in the kernel for this one, and may be cut short; 0: none.
  std::atomic<int> blocking_tid{0};

  char name[16] = {};
  bool name_set = false;
  // Recorded for whoever asks back.
  int policy = 0;    // SCHED_OTHER
  int priority = 0;
  int nice = 0;
  uint64_t affinity[16] = {};  // 1024 CPUs, as glibc's cpu_set_t
  bool affinity_set = false;

  Thread* next_free = nullptr;
};

// The running thread. Undefined where no fiber runs.
inline Thread& current_thread() { return *static_cast<Thread*>(current_fiber()); }

// A fresh record (state dead, tid 0), or null when there are kMaxThreads or no memory.
Thread* allocate_thread();
// Gives it an id that nobody has; publishes it to find_thread().
int publish_thread(Thread& thread);
// Its id is free from now on; the record may be handed out again.
void recycle_thread(Thread& thread);
// The living thread of that id in this process, or null.
Thread* find_thread(int tid);

// Calls visit(thread, argument) for each living thread, under the table's lock, until it returns
// true; returns the thread it did so for, or null. visit must not park or take locks above.
Thread* visit_threads(bool (*visit)(Thread&, void*), void* argument);
uint32_t living_threads();

// Makes the record of the program's first thread, on the kernel thread that runs it.
Thread* adopt_main_thread(int process_id);
// In the child of a fork: only `survivor` lives, under the child's process id.
void keep_only(Thread& survivor, int process_id);
void lock_threads_for_fork();
void unlock_threads_after_fork();

}  // namespace weft
