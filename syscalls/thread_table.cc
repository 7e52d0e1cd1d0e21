// thread_table.cc - where thread records live and how ids find them (thread.h).
// SPDX-License-Identifier: Apache-2.0
#include "platform/os.h"
#include "scheduler/assert.h"
#include "syscalls/thread.h"

namespace weft {
namespace {

struct ThreadTable {
  SpinLock lock;
  Thread* records = nullptr;  // kMaxThreads of them, reserved; const after the first use
  // Records below were used at least once. Atomic: find_thread() looks without the lock.
  std::atomic<uint32_t> used{0};
  Thread* free WEFT_GUARDED_BY(lock) = nullptr;
  uint32_t living WEFT_GUARDED_BY(lock) = 0;
  Thread* main = nullptr;  // const after adopt_main_thread(), but for a fork's child
  // Added to every id, so that two processes that share locks do not have the same ones: the words
  // of robust and recursive locks hold the owner's id. As `main`.
  uint32_t tid_offset = 0;
};

constinit ThreadTable g_table;

constexpr uint32_t kTidMask = kFirstVirtualTid - 1;

uint32_t tid_offset_of(int process_id) {
  // Fibonacci hashing (Knuth 6.4): neighbouring process ids come to lie far apart.
  return (static_cast<uint32_t>(process_id) * 0x9E3779B1u) >> 3;
}

int tid_of(const Thread& thread) {
  const uint32_t value = (thread.generation << kThreadIndexBits | thread.index) + g_table.tid_offset;
  return kFirstVirtualTid + static_cast<int>(value & kTidMask);
}

bool reserve_records() WEFT_REQUIRES(g_table.lock) {
  if (g_table.records != nullptr) return true;
  g_table.records = static_cast<Thread*>(platform::map_memory(kMaxThreads * sizeof(Thread)));
  return g_table.records != nullptr;
}

}  // namespace

Thread* allocate_thread() {
  LockGuard guard(g_table.lock);
  if (!reserve_records()) return nullptr;
  Thread* thread = g_table.free;
  uint32_t index;
  if (thread != nullptr) {
    g_table.free = thread->next_free;
    index = thread->index;
  } else {
    // Relaxed: changes under the lock only.
    index = g_table.used.load(std::memory_order_relaxed);
    if (index == kMaxThreads) return nullptr;
    thread = &g_table.records[index];
    // Release: pairs with find_thread().
    g_table.used.store(index + 1, std::memory_order_release);
  }
  // What a late waker, interrupter or id lookup may still look at survives: wait_word (its ticket
  // goes on counting), tid, generation. The rest is made new.
  const uint64_t wait_word = thread->wait_word.load(std::memory_order_relaxed);
  const uint32_t generation = thread->generation + 1;
  thread->thread_pointer = 0;
  thread->next = nullptr;
  thread->attention.store(0, std::memory_order_relaxed);
  thread->state = FiberState::dead;
  thread->reason = WaitReason::none;
  thread->bound = false;
  thread->home = nullptr;
  thread->io_wait = nullptr;
  thread->wait_word.store(wait_word & ~kWaitStateMask, std::memory_order_relaxed);
  thread->index = index;
  thread->generation = generation;
  thread->clear_child_tid = nullptr;
  thread->robust_list = nullptr;
  thread->signal_mask.store(0, std::memory_order_relaxed);
  thread->wait_set.store(0, std::memory_order_relaxed);
  thread->pending.clear();
  thread->mask_to_restore = false;
  thread->alternate_stack = AlternateStack{};
  thread->name[0] = 0;
  thread->name_set = false;
  thread->policy = thread->priority = thread->nice = 0;
  thread->affinity_set = false;
  thread->next_free = nullptr;
  return thread;
}

int publish_thread(Thread& thread) {
  const int tid = tid_of(thread);
  LockGuard guard(g_table.lock);
  g_table.living++;
  // Release: the record before its id.
  thread.tid.store(tid, std::memory_order_release);
  return tid;
}

void recycle_thread(Thread& thread) {
  LockGuard guard(g_table.lock);
  if (thread.tid.load(std::memory_order_relaxed) != 0) g_table.living--;
  thread.tid.store(0, std::memory_order_relaxed);
  thread.next_free = g_table.free;
  g_table.free = &thread;
}

Thread* find_thread(int tid) {
  // Acquire here and below: pairs with allocate_thread() and publish_thread().
  Thread* main = g_table.main;
  if (main != nullptr && main->tid.load(std::memory_order_acquire) == tid) return main;
  if (tid < kFirstVirtualTid) return nullptr;
  const uint32_t index = (static_cast<uint32_t>(tid) - g_table.tid_offset) & (kMaxThreads - 1);
  if (index >= g_table.used.load(std::memory_order_acquire)) return nullptr;
  Thread& thread = g_table.records[index];
  return thread.tid.load(std::memory_order_acquire) == tid ? &thread : nullptr;
}

Thread* visit_threads(bool (*visit)(Thread&, void*), void* argument) {
  LockGuard guard(g_table.lock);
  const uint32_t used = g_table.used.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < used; i++) {
    Thread& thread = g_table.records[i];
    if (thread.tid.load(std::memory_order_relaxed) != 0 && visit(thread, argument)) return &thread;
  }
  return nullptr;
}

uint32_t living_threads() {
  LockGuard guard(g_table.lock);
  return g_table.living;
}

Thread* adopt_main_thread(int process_id) {
  Thread* thread = allocate_thread();
  if (thread == nullptr) return nullptr;
  LockGuard guard(g_table.lock);
  g_table.main = thread;
  g_table.tid_offset = tid_offset_of(process_id);
  g_table.living++;
  thread->tid.store(process_id, std::memory_order_release);
  return thread;
}

void keep_only(Thread& survivor, int process_id) {
  LockGuard guard(g_table.lock);
  const uint32_t used = g_table.used.load(std::memory_order_relaxed);
  forget_signal_pool();
  g_table.free = nullptr;
  for (uint32_t i = 0; i < used; i++) {
    Thread& thread = g_table.records[i];
    thread.pending.forget();
    if (&thread == &survivor) continue;
    thread.tid.store(0, std::memory_order_relaxed);
    thread.next_free = g_table.free;
    g_table.free = &thread;
  }
  g_table.main = &survivor;
  g_table.tid_offset = tid_offset_of(process_id);
  g_table.living = 1;
  survivor.tid.store(process_id, std::memory_order_release);
}

void lock_threads_for_fork() WEFT_NO_ANALYSIS { g_table.lock.lock(); }
void unlock_threads_after_fork() WEFT_NO_ANALYSIS { g_table.lock.unlock(); }

}  // namespace weft
