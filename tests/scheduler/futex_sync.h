// futex_sync.h - locks as a libc builds them on the futex table: what its tests exercise it with.
// Words are private. Everything here runs on fibers, except wake(), which any kernel thread may
// use. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "platform/netpoller.h"
#include "scheduler/futex_table.h"

namespace weft::scheduler_test {

using Word = std::atomic<uint32_t>;

inline const volatile uint32_t* address_of(const Word& word) {
  static_assert(sizeof(Word) == sizeof(uint32_t));
  return reinterpret_cast<const volatile uint32_t*>(&word);
}
inline FutexKey key_of(const Word& word) {
  return FutexKey::of(&word, false);
}

inline FutexOutcome wait_on(const Word& word, uint32_t expected,
                            int64_t deadline_ns = platform::kForever,
                            uint32_t bits = kFutexAnyBit) {
  return futex_wait(key_of(word), address_of(word), expected, bits, deadline_ns);
}
inline uint32_t wake(const Word& word, uint32_t count = 1, uint32_t bits = kFutexAnyBit) {
  return futex_wake(key_of(word), count, bits);
}

inline constexpr uint32_t kAll = INT32_MAX;

// U. Drepper, "Futexes are tricky": 0 free, 1 held, 2 held and perhaps waited for.
class FutexMutex {
 public:
  void lock() {
    uint32_t seen = 0;
    if (word_.compare_exchange_strong(seen, 1)) return;
    lock_contended();
  }
  // Also for those that were requeued here: more may wait behind them.
  void lock_contended() {
    while (word_.exchange(2) != 0) wait_on(word_, 2);
  }
  void unlock() {
    if (word_.exchange(0) == 2) wake(word_);
  }
  Word& word() { return word_; }

 private:
  Word word_{0};
};

class FutexCondition {
 public:
  // False: the deadline passed first.
  bool wait(FutexMutex& mutex, int64_t deadline_ns = platform::kForever) {
    const uint32_t seen = sequence_.load();
    mutex.unlock();
    const FutexOutcome outcome = wait_on(sequence_, seen, deadline_ns);
    mutex.lock_contended();
    return outcome != FutexOutcome::timed_out;
  }
  void notify_one() {
    sequence_.fetch_add(1);
    wake(sequence_);
  }
  // Wakes one and moves the others to the mutex (FUTEX_CMP_REQUEUE). The caller holds the mutex.
  void notify_all(FutexMutex& mutex) {
    uint32_t seen = sequence_.fetch_add(1) + 1;
    mutex.word().store(2);
    for (;;) {
      const FutexRequeue result = futex_requeue(key_of(sequence_), key_of(mutex.word()), 1, kAll,
                                                address_of(sequence_), &seen);
      if (result.affected >= 0) return;
      seen = sequence_.load();
    }
  }

 private:
  Word sequence_{0};
};

}  // namespace weft::scheduler_test
