// ready_queue.h - a worker's own queue: a bounded ring; the owner pushes and pops, thieves take half.
// Fibers between head_ and tail_ are ready. Indices only grow; their low bits name the slot.
// Invariant: tail_ - head_ <= kCapacity, as every reader that wins its compare-exchange sees it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "scheduler/fiber.h"

namespace weft {

class ReadyQueue {
 public:
  // 256: enough that overflow to the global queue is rare at thousands of fibers, small enough that
  // stealing half copies at most 1 KiB.
  static constexpr uint32_t kCapacity = 256;

  // May run in parallel with steal_half(). Never with another push() or pop(). False: full.
  bool push(Fiber* fiber) {
    // Acquire: pairs with the release in steal_half(), so the thief is done reading the slot.
    const uint32_t head = head_.load(std::memory_order_acquire);
    // Relaxed: only the owner writes tail_, and we are the owner.
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head >= kCapacity) return false;
    slots_[tail % kCapacity].store(fiber, std::memory_order_relaxed);
    // Release: publishes the slot (and the fiber) to steal_half()'s acquire of tail_.
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  // May run in parallel with steal_half(). Never with another push() or pop().
  Fiber* pop() {
    uint32_t head = head_.load(std::memory_order_relaxed);
    for (;;) {
      const uint32_t tail = tail_.load(std::memory_order_relaxed);
      if (tail == head) return nullptr;
      Fiber* fiber = slots_[head % kCapacity].load(std::memory_order_relaxed);
      // Acquire-release against thieves: exactly one of us advances head_ over this slot.
      if (head_.compare_exchange_weak(head, head + 1, std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) {
        return fiber;
      }
    }
  }

  // Moves half of the fibers (at least one, if there is one) of this queue into `thief`, which must
  // be empty, and returns one of them, not queued. May run in parallel with the owner and with
  // other thieves. Executed only by the owner of `thief`.
  Fiber* steal_half(ReadyQueue& thief) {
    uint32_t head = head_.load(std::memory_order_acquire);
    for (;;) {
      // Acquire: pairs with push(): the slots up to tail are written.
      const uint32_t tail = tail_.load(std::memory_order_acquire);
      const uint32_t available = tail - head;
      if (available == 0) return nullptr;
      if (available > kCapacity) {  // head_ moved between the two loads
        head = head_.load(std::memory_order_acquire);
        continue;
      }
      const uint32_t count = available - available / 2;
      const uint32_t thief_tail = thief.tail_.load(std::memory_order_relaxed);
      for (uint32_t i = 0; i < count; i++) {
        thief.slots_[(thief_tail + i) % kCapacity].store(
            slots_[(head + i) % kCapacity].load(std::memory_order_relaxed),
            std::memory_order_relaxed);
      }
      // Release: the owner may reuse the slots only after we have read them.
      if (head_.compare_exchange_weak(head, head + count, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
        // The last one is returned, the rest published to other thieves.
        Fiber* fiber =
            thief.slots_[(thief_tail + count - 1) % kCapacity].load(std::memory_order_relaxed);
        thief.tail_.store(thief_tail + count - 1, std::memory_order_release);
        return fiber;
      }
    }
  }

  // Any thread; a moment's truth.
  uint32_t size() const {
    const uint32_t head = head_.load(std::memory_order_acquire);
    return tail_.load(std::memory_order_acquire) - head;
  }

 private:
  // Apart: the owner writes tail_ at every push, thieves write head_.
  alignas(64) std::atomic<uint32_t> head_{0};
  alignas(64) std::atomic<uint32_t> tail_{0};
  std::atomic<Fiber*> slots_[kCapacity] = {};
};

}  // namespace weft
