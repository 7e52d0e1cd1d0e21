// timer_wheel.h - a worker's deadlines: a hierarchical wheel, insert and cancel in O(1).
// Guarantee: a timer fires never early, and at most one tick (65.536 us) plus the worker's delay
// late. The tick is the coalescing: all deadlines inside one are served by one wake-up.
//
// Level 0 has 64 slots of one tick, each next level 64 times coarser; a timer sits on the level of
// the highest digit (base 64) in which its tick differs from now, and moves down as now reaches its
// slot. Six levels reach 2^36 ticks = 52 days; a later deadline waits at the end and is put back.
//
// Who: the owner worker inserts and advances. cancel() may come from any worker (a futex waiter is
// woken elsewhere), hence the lock. fire() runs under the lock, so after cancel() returned it is
// certain that the timer neither runs nor will run.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "scheduler/lock.h"

namespace weft {

class TimerWheel;
struct Fiber;

struct Timer {
  // Under the wheel's lock, when now reached the deadline. Returns a fiber to be made ready once
  // the lock is released, or null. Must not touch the wheel.
  Fiber* (*fire)(Timer& self) = nullptr;
  int64_t deadline_ns = 0;

 private:
  friend class TimerWheel;
  Timer* next_ = nullptr;
  Timer** link_ = nullptr;  // what points to us; null: not in a wheel
  TimerWheel* wheel_ = nullptr;
  uint64_t tick_ = 0;
  uint8_t level_ = 0;
  uint8_t slot_ = 0;

 public:
  // Takes the timer out of its wheel, if it still is in one. Any worker.
  void cancel();
};

class TimerWheel {
 public:
  static constexpr unsigned kTickShift = 16;
  static constexpr unsigned kLevels = 6;
  static constexpr unsigned kSlotBits = 6;
  static constexpr unsigned kSlots = 1 << kSlotBits;

  // timer.fire and timer.deadline_ns are set. Executed only by the owner.
  void insert(Timer& timer, int64_t now_ns) WEFT_EXCLUDES(lock_);

  // Fires what is due. Returns the woken fibers, linked by Fiber::next. Executed only by the owner.
  Fiber* advance(int64_t now_ns) WEFT_EXCLUDES(lock_);

  // When advance() has something to do next (it may be a mere move down), INT64_MAX if never.
  // Executed only by the owner.
  int64_t next_deadline_ns() WEFT_EXCLUDES(lock_);

  bool empty() const { return count_.load(std::memory_order_relaxed) == 0; }
  uint32_t size() const { return count_.load(std::memory_order_relaxed); }

 private:
  friend struct Timer;
  void place(Timer& timer) WEFT_REQUIRES(lock_);
  void unlink(Timer& timer) WEFT_REQUIRES(lock_);
  // First tick of the earliest non-empty slot, and which one; false if there is none.
  bool earliest(uint64_t& tick, unsigned& level, unsigned& slot) const WEFT_REQUIRES(lock_);

  SpinLock lock_;
  uint64_t now_tick_ WEFT_GUARDED_BY(lock_) = 0;
  uint64_t occupied_[kLevels] WEFT_GUARDED_BY(lock_) = {};
  Timer* slots_[kLevels][kSlots] WEFT_GUARDED_BY(lock_) = {};
  // Relaxed: written under the lock, read as a hint by the owner, which alone inserts.
  std::atomic<uint32_t> count_{0};
};

}  // namespace weft
