// global_queue.h - ready fibers that no worker holds: overflow, and what foreign threads woke.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

#include "scheduler/fiber.h"
#include "scheduler/lock.h"

namespace weft {

class GlobalQueue {
 public:
  void push(Fiber& fiber) WEFT_EXCLUDES(lock_) {
    fiber.next = nullptr;
    LockGuard guard(lock_);
    if (tail_ == nullptr) {
      head_ = &fiber;
    } else {
      tail_->next = &fiber;
    }
    tail_ = &fiber;
    // Relaxed: size_ is a hint for empty(); the pusher's barrier in wake_one() orders it.
    size_.store(size_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  // Takes the oldest fiber, or null.
  Fiber* pop() WEFT_EXCLUDES(lock_) {
    if (empty()) return nullptr;
    LockGuard guard(lock_);
    Fiber* fiber = head_;
    if (fiber == nullptr) return nullptr;
    head_ = fiber->next;
    if (head_ == nullptr) tail_ = nullptr;
    size_.store(size_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    fiber->next = nullptr;
    return fiber;
  }

  bool empty() const { return size_.load(std::memory_order_relaxed) == 0; }
  uint32_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  SpinLock lock_;
  Fiber* head_ WEFT_GUARDED_BY(lock_) = nullptr;
  Fiber* tail_ WEFT_GUARDED_BY(lock_) = nullptr;
  std::atomic<uint32_t> size_{0};
};

}  // namespace weft
