// lock.h - the runtime's one lock: a spin lock, held for a few dozen instructions, never across a
// switch or a call that can wait. Runtime code is never preempted (a signal that finds the program
// counter in it only leaves a note), so a holder is always running.
//
// Lock order, outermost first. A lock may be taken only while holding ones above it.
//   thread table  >  stack slabs  >  futex bucket (two: by address)  >  timer wheel
//   >  blocking pool  >  global queue
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "platform/os.h"

#if defined(__clang__)
#define WEFT_CAPABILITY(x) __attribute__((capability(x)))
#define WEFT_GUARDED_BY(x) __attribute__((guarded_by(x)))
#define WEFT_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define WEFT_EXCLUDES(...) __attribute__((locks_excluded(__VA_ARGS__)))
#define WEFT_ACQUIRE(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define WEFT_RELEASE(...) __attribute__((release_capability(__VA_ARGS__)))
#define WEFT_SCOPED __attribute__((scoped_lockable))
#define WEFT_NO_ANALYSIS __attribute__((no_thread_safety_analysis))
#else
#define WEFT_CAPABILITY(x)
#define WEFT_GUARDED_BY(x)
#define WEFT_REQUIRES(...)
#define WEFT_EXCLUDES(...)
#define WEFT_ACQUIRE(...)
#define WEFT_RELEASE(...)
#define WEFT_SCOPED
#define WEFT_NO_ANALYSIS
#endif

namespace weft {

class WEFT_CAPABILITY("mutex") SpinLock {
 public:
  void lock() WEFT_ACQUIRE() {
    // Acquire: pairs with the release in unlock(), so the holder's stores are ours now.
    while (locked_.exchange(1, std::memory_order_acquire) != 0) {
      // Relaxed: only decides whether the exchange is worth another try.
      while (locked_.load(std::memory_order_relaxed) != 0) platform::cpu_relax();
    }
  }
  void unlock() WEFT_RELEASE() {
    // Release: publishes what was written under the lock to the next lock().
    locked_.store(0, std::memory_order_release);
  }

 private:
  std::atomic<uint32_t> locked_{0};
};

class WEFT_SCOPED LockGuard {
 public:
  explicit LockGuard(SpinLock& lock) WEFT_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~LockGuard() WEFT_RELEASE() { lock_.unlock(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  SpinLock& lock_;
};

// The store-load barrier of the sleeping protocols. One helper, because ThreadSanitizer does not
// see fences: there it is a sequentially consistent read-modify-write of one word.
inline void full_barrier() {
#if defined(__SANITIZE_THREAD__)
  static std::atomic<uint32_t> word{0};
  word.fetch_add(0, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace weft
