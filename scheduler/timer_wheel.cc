// timer_wheel.cc - the hierarchical timer wheel of timer_wheel.h (Varghese and Lauck, 1987).
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/timer_wheel.h"

#include "scheduler/fiber.h"

namespace weft {
namespace {

constexpr uint64_t kReach = uint64_t{1} << (TimerWheel::kLevels * TimerWheel::kSlotBits);

}  // namespace

void TimerWheel::place(Timer& timer) {
  // A deadline that has passed, or falls into this tick, goes into the next tick to be looked at.
  uint64_t tick = timer.tick_ > now_tick_ ? timer.tick_ : now_tick_ + 1;
  // Beyond the wheel's reach: wait in the last slot that now cannot have passed, then place again.
  if (tick - now_tick_ >= kReach / 2) tick = now_tick_ + kReach / 2;
  const uint64_t differing = (tick ^ now_tick_) | (kSlots - 1);
  unsigned level = (63 - static_cast<unsigned>(__builtin_clzll(differing))) / kSlotBits;
  if (level >= kLevels) level = kLevels - 1;
  const auto slot = static_cast<unsigned>((tick >> (level * kSlotBits)) & (kSlots - 1));
  Timer*& head = slots_[level][slot];
  timer.level_ = static_cast<uint8_t>(level);
  timer.slot_ = static_cast<uint8_t>(slot);
  timer.next_ = head;
  timer.link_ = &head;
  if (head != nullptr) head->link_ = &timer.next_;
  head = &timer;
  occupied_[level] |= uint64_t{1} << slot;
}

void TimerWheel::unlink(Timer& timer) {
  *timer.link_ = timer.next_;
  if (timer.next_ != nullptr) timer.next_->link_ = timer.link_;
  timer.link_ = nullptr;
  if (slots_[timer.level_][timer.slot_] == nullptr) {
    occupied_[timer.level_] &= ~(uint64_t{1} << timer.slot_);
  }
}

void TimerWheel::insert(Timer& timer, int64_t now_ns) {
  LockGuard guard(lock_);
  if (count_.load(std::memory_order_relaxed) == 0) {
    // An empty wheel may have slept for long: nothing lies between then and now.
    now_tick_ = static_cast<uint64_t>(now_ns) >> kTickShift;
  }
  const auto deadline = static_cast<uint64_t>(timer.deadline_ns < 0 ? 0 : timer.deadline_ns);
  // Rounded up: never early.
  timer.tick_ = (deadline >> kTickShift) + 1;
  timer.wheel_ = this;
  place(timer);
  count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void Timer::cancel() {
  // wheel_ is written by insert() before the fiber waits, so the fiber (who cancels) reads it.
  if (wheel_ == nullptr) return;
  LockGuard guard(wheel_->lock_);
  if (link_ == nullptr) return;
  wheel_->unlink(*this);
  // Relaxed: see count_.
  wheel_->count_.store(wheel_->count_.load(std::memory_order_relaxed) - 1,
                       std::memory_order_relaxed);
}

bool TimerWheel::earliest(uint64_t& tick, unsigned& level, unsigned& slot) const {
  // Lower levels hold only what comes before the next slot boundary of the level above, so the
  // first non-empty level has the earliest slot.
  for (level = 0; level < kLevels; level++) {
    if (occupied_[level] == 0) continue;
    const unsigned shift = level * kSlotBits;
    const auto current = static_cast<unsigned>((now_tick_ >> shift) & (kSlots - 1));
    // Slots at and after the current one come first; on the top level they may wrap around.
    const uint64_t rotated = current == 0 ? occupied_[level]
                                          : (occupied_[level] >> current) |
                                                (occupied_[level] << (kSlots - current));
    const auto ahead = static_cast<unsigned>(__builtin_ctzll(rotated));
    slot = (current + ahead) & (kSlots - 1);
    const uint64_t base = now_tick_ >> shift;
    tick = (base + ahead) << shift;
    if (tick < now_tick_) tick = now_tick_;
    return true;
  }
  return false;
}

Fiber* TimerWheel::advance(int64_t now_ns) {
  if (empty()) return nullptr;
  const uint64_t target = static_cast<uint64_t>(now_ns) >> kTickShift;
  Fiber* woken = nullptr;
  LockGuard guard(lock_);
  uint64_t tick;
  unsigned level;
  unsigned slot;
  // Bounded: each round empties one slot, and what it puts back lies after `tick`.
  while (earliest(tick, level, slot) && tick <= target) {
    Timer* list = slots_[level][slot];
    slots_[level][slot] = nullptr;
    occupied_[level] &= ~(uint64_t{1} << slot);
    now_tick_ = tick;
    while (list != nullptr) {
      Timer* timer = list;
      list = timer->next_;
      timer->link_ = nullptr;
      if (timer->tick_ > now_tick_) {
        place(*timer);
        continue;
      }
      count_.store(count_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
      Fiber* fiber = timer->fire(*timer);
      if (fiber != nullptr) {
        fiber->next = woken;
        woken = fiber;
      }
    }
  }
  if (target > now_tick_) now_tick_ = target;
  return woken;
}

int64_t TimerWheel::next_deadline_ns() {
  if (empty()) return INT64_MAX;
  LockGuard guard(lock_);
  uint64_t tick;
  unsigned level;
  unsigned slot;
  if (!earliest(tick, level, slot)) return INT64_MAX;
  return static_cast<int64_t>(tick << kTickShift);
}

}  // namespace weft
