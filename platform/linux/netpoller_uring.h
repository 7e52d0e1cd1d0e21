// netpoller_uring.h - the netpoller on io_uring: one ring per worker, one system call per turn.
// Guarantees platform/netpoller.h. No memory is allocated after start(); an operation costs one
// 64-byte entry written by submit() and one 16-byte entry read by poll().
//
// wake() and a sleeping poll() meet in one word, wake_word_: awake, sleeping, notified.
//   waker:    1 make the work visible   2 exchange the word to notified (a full barrier)
//             3 only if it was sleeping: futex-wake the word
//   sleeper:  1 compare-exchange the word awake -> sleeping (a full barrier); was it notified, a
//               wake came first: make it awake and do not sleep
//             2 have a FUTEX_WAIT(word == sleeping) operation in the ring   3 enter and wait
//             4 exchange the word to awake
// All changes of one word have one order. Notified before step 1 is seen by step 1. Notified
// between 1 and 2 makes the operation fail at once with EAGAIN, a completion that ends step 3.
// Notified after 2 finds the word sleeping and the operation queued, so the futex-wake completes
// it. The operation outlives a poll() that something else ended: it is queued until a futex-wake
// takes it, whatever the word says meanwhile, and so serves the next sleep at no cost. A futex-wake
// that comes late, in the next sleep, makes poll() return for nothing, which the contract allows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "platform/linux/uring_ring.h"
#include "platform/netpoller.h"

namespace weft::platform {

// Called when the ring breaks its contract or ours; must not return. The default prints one line
// and aborts. Set once, before the first start().
using UringPanicHook = void (*)(const char* what, int64_t first, int64_t second);
void set_uring_panic_hook(UringPanicHook hook);

class UringNetpoller final : public Netpoller {
 public:
  constexpr UringNetpoller() = default;
  explicit constexpr UringNetpoller(const UringOptions& options) : options_(options) {}
  UringNetpoller(const UringNetpoller&) = delete;
  UringNetpoller& operator=(const UringNetpoller&) = delete;

  // False: this kernel or sandbox gives no usable ring; start_error() says why.
  // After fork() the child makes a new object in place of its copy and starts that one.
  bool start() override;
  void submit(Completion& completion) override;
  void flush() override;
  uint32_t poll(int64_t deadline_ns) override;
  void cancel(Completion& completion) override;
  void wake() override;
  int64_t now_ns() override;
  bool supports(OpKind kind) const override {
    return ((supported_ >> static_cast<unsigned>(kind)) & 1) != 0;
  }
  uint32_t in_flight() const override { return in_flight_; }

  // Gives the ring back. By the owner, with nothing in flight and no wake() under way.
  void stop();

  // Descriptors that the program can see because the kernel is too old to hide them, else -1: the
  // ring's (before 5.18) and the eventfd for wake() (before 6.7). The program must not close them.
  int visible_fd() const { return ring_.visible_fd(); }
  int visible_wake_fd() const { return wake_fd_; }
  // Why start() failed, -errno. EPERM and ENOSYS: refused by a sandbox or not in this kernel.
  long start_error() const { return start_error_; }
  const UringRing& ring() const { return ring_; }

 private:
  enum WakeState : uint32_t { awake, sleeping, notified };

  io_uring_sqe& next_entry();
  void learn_operations();
  void sleep(int64_t timeout_ns);
  void arm_wake();
  void consume_wake();
  long enter(uint32_t wait_count, uint32_t flags, int64_t timeout_ns = UringRing::kNoTimeout);
  uint32_t deliver();
  uint32_t deliver_taken();
  uint32_t deliver_entry(const io_uring_cqe& entry);
  void take_completions();
  void append_taken(Completion& completion, int64_t result);

  // The owner's only, except wake_word_ and wake_fd_.
  UringRing ring_;
  uint32_t in_flight_ = 0;
  uint32_t supported_ = 0;       // a bit per OpKind; const after start()
  uint8_t cancel_flags_ = 0;     // IOSQE_* of cancel requests; const after start()
  bool wake_armed_ = false;      // an operation that ends a sleep is in the ring
  bool wakes_by_futex_ = false;  // const after start()
  // Completed, results set, not delivered: taken early to make room, or refused by submit().
  Completion* taken_first_ = nullptr;
  Completion* taken_last_ = nullptr;
  int32_t wake_fd_ = -1;     // const after start()
  uint64_t wake_count_ = 0;  // what a read of the eventfd is given; nobody looks at it
  long start_error_ = 0;
  UringOptions options_;
  // On its own cache line: wakers write it while the owner works.
  alignas(64) uint32_t wake_word_ = awake;
};

}  // namespace weft::platform
