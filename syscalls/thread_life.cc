// thread_life.cc - birth and death of virtual kernel threads: clone, exit and what goes with them.
// glibc's own pthread_create and start_thread run unchanged above: they see a kernel that starts a
// thread at the instruction after clone, on the given stack and TLS, and clears its id at the end.
// SPDX-License-Identifier: Apache-2.0
#include <linux/futex.h>
#include <linux/sched.h>
#include <sys/syscall.h>

#include "platform/os.h"
#include "platform/thread_pointer.h"
#include "scheduler/fiber_stack.h"
#include "scheduler/futex_table.h"
#include "syscalls/bound.h"
#include "syscalls/call_table.h"
#include "syscalls/counters.h"
#include "syscalls/kernel.h"
#include "syscalls/process.h"
#include "syscalls/runtime.h"
#include "syscalls/signals.h"
#include "syscalls/thread.h"
#include "syscalls/user_memory.h"

namespace weft {
namespace {

// What clone(2) demands of CLONE_THREAD, and what a fiber shares by its nature.
constexpr uint64_t kThreadFlags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
constexpr uint64_t kSharedFlags = kThreadFlags | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM;
constexpr uint64_t kKnownFlags = kSharedFlags | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                 CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | CLONE_DETACHED |
                                 CLONE_IO | CLONE_PTRACE | CLONE_UNTRACED;

// The first thing on a new fiber's stack.
void enter_child(void* argument) {
  Worker::finish_switch();
  g_runtime.hooks.resume_frame(static_cast<CallFrame*>(argument));
}

}  // namespace

Result spawn_thread(const CallFrame& frame, const CloneRequest& request) {
  if ((request.flags & kThreadFlags) != kThreadFlags || (request.flags & ~kKnownFlags) != 0 ||
      request.stack_pointer == 0) {
    return -EINVAL;
  }
  // Before anything is made: a fault on the program's memory gives the call up.
  const uint64_t top = (request.stack_pointer - 128 - sizeof(CallFrame)) & ~uint64_t{15};
  auto* child_frame = reinterpret_cast<CallFrame*>(top);
  *child_frame = frame;
  Thread& parent = current_thread();
  Thread* child = allocate_thread();
  if (child == nullptr) return -EAGAIN;
  child->thread_pointer = (request.flags & CLONE_SETTLS) != 0 ? request.thread_pointer
                                                              : platform::read_thread_pointer();
  child->signal_mask.store(parent.signal_mask.load(std::memory_order_relaxed),
                           std::memory_order_relaxed);
  child->policy = parent.policy;
  child->priority = parent.priority;
  child->nice = parent.nice;
  for (size_t i = 0; i < sizeof child->name; i++) child->name[i] = parent.name[i];
  child->name_set = parent.name_set;
  child->affinity_set = parent.affinity_set;
  for (size_t i = 0; parent.affinity_set && i < sizeof parent.affinity / sizeof(uint64_t); i++) {
    child->affinity[i] = parent.affinity[i];
  }
  child->home = current_worker();
  child->call_frame = nullptr;
  child->saved_vectors = nullptr;
  child->blocking_tid.store(0, std::memory_order_relaxed);
  if ((request.flags & CLONE_CHILD_CLEARTID) != 0) child->clear_child_tid = request.child_tid;

  // The child's registers are the parent's but for rax and rsp (clone(2)). They lie below the red
  // zone of the new stack until it runs.
  child_frame->rsp = request.stack_pointer;
  child_frame->result = 0;
  platform::make_context(child->context, child_frame, enter_child, child_frame);

  const int tid = publish_thread(*child);
  // The kernel does not care either whether these can be written (kernel/fork.c).
  if ((request.flags & CLONE_PARENT_SETTID) != 0) {
    static_cast<void>(weft_user_copy(request.parent_tid, &tid, sizeof tid));
  }
  if ((request.flags & CLONE_CHILD_SETTID) != 0) {
    static_cast<void>(weft_user_copy(request.child_tid, &tid, sizeof tid));
  }
  g_call_counters.threads_born.fetch_add(1, std::memory_order_relaxed);
  g_runtime.scheduler.unpark(*child);
  return tid;
}

namespace {

// robust_list(7)-style lists: Documentation/locking/robust-futex-ABI.rst. All of it is the program's
// memory, and like the kernel we stop where it is not what it should be.
struct RobustHead {
  uint64_t first;
  int64_t futex_offset;
  uint64_t pending;
};

// The holder of a robust lock is gone: the word says so, and one waiter learns of it.
void release_robust(uint64_t node, int64_t offset, uint32_t tid, bool process_ends) {
  // Bit 0 tells a PI lock.
  auto* word = pointer<uint32_t>((node & ~uint64_t{1}) + static_cast<uint64_t>(offset));
  uint32_t value;
  if ((reinterpret_cast<uintptr_t>(word) & 3) != 0 || weft_user_load32(word, &value) != 0) return;
  while ((value & FUTEX_TID_MASK) == tid) {
    const uint32_t died = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    uint32_t found;
    if (weft_user_compare_exchange32(word, value, died, &found) != 0) return;
    if (found != value) {
      value = found;
      continue;
    }
    if ((value & FUTEX_WAITERS) == 0) return;
    // The kernel wakes as a shared operation; glibc waits so on robust mutexes. A PI lock waits
    // under the private key of the table.
    if (!process_ends) {
      futex_wake(FutexKey::of(word, false), 1, kFutexAnyBit);
      futex_wake(FutexKey::of(word, true), 1, kFutexAnyBit);
    }
    system_call(SYS_futex, address_of(word), FUTEX_WAKE, 1);
    return;
  }
}

void walk_robust_list(Thread& thread, bool process_ends) {
  const auto* list = static_cast<const uint64_t*>(thread.robust_list);
  RobustHead head;
  if (list == nullptr) return;
  if (weft_user_copy(&head, list, sizeof head) != 0) return;
  const auto tid = static_cast<uint32_t>(thread.tid.load(std::memory_order_relaxed));
  // ROBUST_LIST_LIMIT: the kernel's bound against a list in a circle.
  int limit = 2048;
  for (uint64_t node = head.first; (node & ~uint64_t{1}) != reinterpret_cast<uintptr_t>(list);) {
    // Read first: the lock's memory may go once it is released.
    uint64_t following;
    if (weft_user_load64(pointer<void>(node & ~uint64_t{1}), &following) != 0) break;
    if (node != head.pending) release_robust(node, head.futex_offset, tid, process_ends);
    node = following;
    if (--limit == 0) break;
  }
  if (head.pending != 0) release_robust(head.pending, head.futex_offset, tid, process_ends);
}

[[noreturn]] void end_process(int status) {
  if (g_runtime.options.stats) print_stats();
  for (;;) system_call(SYS_exit_group, status);
}

// On another stack than the thread's: after its id is cleared the joiner may unmap stack and TLS.
void finish_exit(void* argument) {
  auto& thread = *static_cast<Thread*>(argument);
  int* clear_child_tid = thread.clear_child_tid;
  const bool bound = thread.bound;
  const int status = thread.exit_status;
  // Before the joiner goes on, the id is nobody's any more.
  recycle_thread(thread);
  if (clear_child_tid != nullptr) {
    // set_tid_address(2): cleared, then one waiter woken by a shared operation.
    const int none = 0;
    const bool cleared = weft_user_copy(clear_child_tid, &none, sizeof none) == 0;
    full_barrier();
    if (!cleared) {
      // As the kernel has it: an address that is not there any more is nobody's.
    } else if (stack_contains(reinterpret_cast<uintptr_t>(clear_child_tid), sizeof(int))) {
      futex_wake(FutexKey::of(clear_child_tid, true), 1, kFutexAnyBit);
    } else {
      system_call(SYS_futex, address_of(clear_child_tid), FUTEX_WAKE, 1);
    }
  }
  // _exit(2): the process ends with its last thread. Asked after the id is gone: of threads that end
  // at the same time, one at least sees that nobody is left.
  if (living_threads() == 0) end_process(status);
  // A bound worker has nothing left to run. Its few pages stay: it stands on them.
  if (bound) end_bound_worker();
}

}  // namespace

void release_robust_locks_of_all() {
  visit_threads(
      [](Thread& thread, void*) {
        walk_robust_list(thread, true);
        return false;
      },
      nullptr);
}

Result sys_exit(CallFrame& frame) {
  Thread& thread = current_thread();
  leave_signals(thread);
  walk_robust_list(thread, false);
  thread.robust_list = nullptr;
  thread.exit_status = static_cast<int>(frame.rdi);
  end_fiber(finish_exit, &thread);
}

Result sys_exit_group(CallFrame& frame) {
  // The kernel does this for the threads that it knows. The other workers still run; a lock that
  // one of them takes from here on is lost, as one that a killed process holds.
  release_robust_locks_of_all();
  if (g_runtime.options.stats) print_stats();
  return kernel_at_once(frame);
}

Result sys_set_tid_address(CallFrame& frame) {
  Thread& thread = current_thread();
  thread.clear_child_tid = pointer<int>(frame.rdi);
  return thread.tid.load(std::memory_order_relaxed);
}

Result sys_gettid(CallFrame&) { return current_thread().tid.load(std::memory_order_relaxed); }

Result sys_set_robust_list(CallFrame& frame) {
  if (frame.rsi != sizeof(RobustHead)) return -EINVAL;
  Thread& thread = current_thread();
  thread.robust_list = pointer<void>(frame.rdi);
  thread.robust_list_bytes = frame.rsi;
  return 0;
}

Result sys_get_robust_list(CallFrame& frame) {
  const auto tid = static_cast<int>(frame.rdi);
  Thread* thread = tid == 0 ? &current_thread() : find_thread(tid);
  if (thread == nullptr) return kernel(frame);
  auto* head = pointer<void*>(frame.rsi);
  auto* bytes = pointer<size_t>(frame.rdx);
  if (head == nullptr || bytes == nullptr) return -EFAULT;
  *head = thread->robust_list;
  *bytes = sizeof(RobustHead);
  return 0;
}

Result sys_rseq(CallFrame& frame) {
  constexpr uint64_t kUnregister = 1;
  auto* area = pointer<int32_t>(frame.rdi);
  if (area == nullptr) return -EINVAL;
  // glibc 2.35 and later abort when this fails in a thread after it worked in main. It "works", and
  // the area keeps saying that no CPU is known, so that its users take their slow path.
  if ((frame.rdx & kUnregister) == 0) area[1] = -2;  // cpu_id
  return 0;
}

}  // namespace weft
