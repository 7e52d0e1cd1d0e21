// signal_queue.h - signals that wait for a thread or for the process, with what came with them.
// signal(7): of a standard signal at most one waits; real-time signals queue, lowest number first,
// those of one number in the order they came. The bits tell what is there without the lock.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "scheduler/lock.h"

namespace weft {

// siginfo_t as the kernel lays it out (128 bytes; sigaction(2)).
struct SignalInfo {
  int32_t number = 0;
  int32_t error = 0;
  int32_t code = 0;
  int32_t padding = 0;
  uint64_t rest[14] = {};
};
static_assert(sizeof(SignalInfo) == 128);

struct QueuedSignal {
  QueuedSignal* next = nullptr;
  SignalInfo info;
};

inline uint64_t signal_bit(int number) { return uint64_t{1} << (number - 1); }
inline constexpr int kFirstRealTimeSignal = 32;

class SignalQueue {
 public:
  // Adds a signal. False: it was a standard one that waits already, or there is no memory (then a
  // real-time one is an error of its sender: EAGAIN). Any kernel thread, also from a handler.
  bool add(const SignalInfo& info);
  // Takes the lowest-numbered waiting signal in `set`. Returns false if there is none.
  bool take(uint64_t set, SignalInfo& info);
  // Discards those in `set` (their action became "ignore", sigaction(2)).
  void discard(uint64_t set);
  void clear() { discard(~uint64_t{0}); }
  // In a fork's child: empty, and free of a holder that is not there any more.
  void forget();
  // A moment's truth.
  uint64_t bits() const { return bits_.load(std::memory_order_acquire); }

 private:
  SpinLock lock_;
  std::atomic<uint64_t> bits_{0};  // changes under the lock
  QueuedSignal* first_ WEFT_GUARDED_BY(lock_) = nullptr;
};

// In a fork's child, before anything is queued: the pool may have been half changed.
void forget_signal_pool();

}  // namespace weft
