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
#include "syscalls/call_table.h"
#include "syscalls/counters.h"
#include "syscalls/kernel.h"
#include "syscalls/process.h"
#include "syscalls/runtime.h"
#include "syscalls/thread.h"

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
  child->home = current_worker();
  if ((request.flags & CLONE_CHILD_CLEARTID) != 0) child->clear_child_tid = request.child_tid;

  // The child's registers are the parent's but for rax and rsp (clone(2)). They lie below the red
  // zone of the new stack until it runs.
  const uint64_t top = (request.stack_pointer - 128 - sizeof(CallFrame)) & ~uint64_t{15};
  auto* child_frame = reinterpret_cast<CallFrame*>(top);
  *child_frame = frame;
  child_frame->rsp = request.stack_pointer;
  child_frame->result = 0;
  platform::make_context(child->context, child_frame, enter_child, child_frame);

  const int tid = publish_thread(*child);
  if ((request.flags & CLONE_PARENT_SETTID) != 0) *request.parent_tid = tid;
  if ((request.flags & CLONE_CHILD_SETTID) != 0) *request.child_tid = tid;
  g_call_counters.threads_born.fetch_add(1, std::memory_order_relaxed);
  g_runtime.scheduler.unpark(*child);
  return tid;
}

namespace {

// robust_list(7)-style lists: Documentation/locking/robust-futex-ABI.rst.
struct RobustNode {
  RobustNode* next;
};
struct RobustHead {
  RobustNode list;
  int64_t futex_offset;
  RobustNode* pending;
};

// The holder of a robust lock is gone: the word says so, and one waiter learns of it.
void release_robust(RobustNode* node, int64_t offset, uint32_t tid) {
  const auto address = reinterpret_cast<uintptr_t>(node) & ~uintptr_t{1};  // bit 0: a PI lock
  auto* word = reinterpret_cast<uint32_t*>(address + static_cast<uintptr_t>(offset));
  uint32_t value = __atomic_load_n(word, __ATOMIC_SEQ_CST);
  while ((value & FUTEX_TID_MASK) == tid) {
    const uint32_t died = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    if (!__atomic_compare_exchange_n(word, &value, died, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
      continue;
    }
    if ((value & FUTEX_WAITERS) == 0) return;
    // The kernel wakes as a shared operation; glibc waits so on robust mutexes. A PI lock waits
    // under the private key of the table.
    futex_wake(FutexKey::of(word, false), 1, kFutexAnyBit);
    futex_wake(FutexKey::of(word, true), 1, kFutexAnyBit);
    system_call(SYS_futex, address_of(word), FUTEX_WAKE, 1);
    return;
  }
}

void walk_robust_list(Thread& thread) {
  auto* head = static_cast<RobustHead*>(thread.robust_list);
  if (head == nullptr) return;
  thread.robust_list = nullptr;
  const auto tid = static_cast<uint32_t>(thread.tid.load(std::memory_order_relaxed));
  RobustNode* pending = head->pending;
  // ROBUST_LIST_LIMIT: the kernel's bound against a list in a circle.
  int limit = 2048;
  for (RobustNode* node = head->list.next; node != &head->list && limit-- > 0;) {
    auto* entry = reinterpret_cast<RobustNode*>(reinterpret_cast<uintptr_t>(node) & ~uintptr_t{1});
    // Read first: the lock's memory may go once it is released.
    RobustNode* following = entry->next;
    if (node != pending) release_robust(node, head->futex_offset, tid);
    node = following;
  }
  if (pending != nullptr) release_robust(pending, head->futex_offset, tid);
}

// On another stack than the thread's: after its id is cleared the joiner may unmap stack and TLS.
void finish_exit(void* argument) {
  auto& thread = *static_cast<Thread*>(argument);
  int* clear_child_tid = thread.clear_child_tid;
  const bool bound = thread.bound;
  // Before the joiner goes on, the id is nobody's any more.
  recycle_thread(thread);
  if (clear_child_tid != nullptr) {
    // set_tid_address(2): cleared, then one waiter woken by a shared operation.
    __atomic_store_n(clear_child_tid, 0, __ATOMIC_SEQ_CST);
    if (stack_contains(reinterpret_cast<uintptr_t>(clear_child_tid), sizeof(int))) {
      futex_wake(FutexKey::of(clear_child_tid, true), 1, kFutexAnyBit);
    } else {
      system_call(SYS_futex, address_of(clear_child_tid), FUTEX_WAKE, 1);
    }
  }
  // A bound worker has nothing left to run. Its few pages stay: it stands on them.
  if (bound) platform::exit_kernel_thread();
}

}  // namespace

Result sys_exit(CallFrame& frame) {
  Thread& thread = current_thread();
  walk_robust_list(thread);
  // _exit(2): the process ends with its last thread.
  if (living_threads() == 1) {
    if (g_runtime.options.stats) print_stats();
    system_call(SYS_exit_group, static_cast<long>(frame.rdi));
  }
  end_fiber(finish_exit, &thread);
}

Result sys_exit_group(CallFrame& frame) {
  if (g_runtime.options.stats) print_stats();
  return kernel(frame);
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
