// signal_queue.cc - queued signals from a pool of their own (signal_queue.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/signal_queue.h"

#include "platform/os.h"

namespace weft {
namespace {

// RLIMIT_SIGPENDING is 96,000 here; a slab of 4096 grows the pool a piece at a time.
constexpr size_t kSlabBytes = 4096 * sizeof(QueuedSignal);

struct Pool {
  SpinLock lock;
  QueuedSignal* free WEFT_GUARDED_BY(lock) = nullptr;
};
constinit Pool g_pool;

QueuedSignal* allocate() {
  LockGuard guard(g_pool.lock);
  if (g_pool.free == nullptr) {
    auto* slab = static_cast<QueuedSignal*>(platform::map_memory(kSlabBytes));
    if (slab == nullptr) return nullptr;
    for (size_t i = 0; i < kSlabBytes / sizeof(QueuedSignal); i++) {
      slab[i].next = g_pool.free;
      g_pool.free = &slab[i];
    }
  }
  QueuedSignal* signal = g_pool.free;
  g_pool.free = signal->next;
  return signal;
}

void release(QueuedSignal* signal) {
  LockGuard guard(g_pool.lock);
  signal->next = g_pool.free;
  g_pool.free = signal;
}

}  // namespace

bool SignalQueue::add(const SignalInfo& info) {
  const uint64_t bit = signal_bit(info.number);
  QueuedSignal* signal = allocate();
  if (signal == nullptr) return false;
  signal->info = info;
  signal->next = nullptr;
  bool added = true;
  {
    LockGuard guard(lock_);
    const uint64_t bits = bits_.load(std::memory_order_relaxed);
    if (info.number < kFirstRealTimeSignal && (bits & bit) != 0) {
      added = false;
    } else {
      QueuedSignal** link = &first_;
      while (*link != nullptr && (*link)->info.number <= info.number) link = &(*link)->next;
      signal->next = *link;
      *link = signal;
      // Release: pairs with bits().
      bits_.store(bits | bit, std::memory_order_release);
    }
  }
  if (!added) release(signal);
  return added;
}

bool SignalQueue::take(uint64_t set, SignalInfo& info) {
  // Acquire inside bits(): an empty queue is the usual case.
  if ((bits() & set) == 0) return false;
  QueuedSignal* signal = nullptr;
  {
    LockGuard guard(lock_);
    QueuedSignal** link = &first_;
    while (*link != nullptr && (signal_bit((*link)->info.number) & set) == 0) {
      link = &(*link)->next;
    }
    signal = *link;
    if (signal == nullptr) return false;
    *link = signal->next;
    // Sorted by number: another of the same number would follow.
    const bool more = *link != nullptr && (*link)->info.number == signal->info.number;
    if (!more) {
      bits_.store(bits_.load(std::memory_order_relaxed) & ~signal_bit(signal->info.number),
                  std::memory_order_release);
    }
  }
  info = signal->info;
  release(signal);
  return true;
}

void SignalQueue::discard(uint64_t set) {
  SignalInfo ignored;
  while (take(set, ignored)) {
  }
}

void SignalQueue::forget() WEFT_NO_ANALYSIS {
  first_ = nullptr;
  bits_.store(0, std::memory_order_relaxed);
  lock_.unlock();
}

void forget_signal_pool() WEFT_NO_ANALYSIS {
  g_pool.free = nullptr;
  g_pool.lock.unlock();
}

}  // namespace weft
