// uring_ring.h - one bare io_uring: set-up, the shared rings, and the three system calls on it.
// It knows entries, not operations: netpoller_uring gives them a meaning. liburing is not used: its
// inline helpers call libc and set errno, and what is left of it is less code than is here.
// Every function but wake-ups' is for the owner, the kernel thread that called open().
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>

namespace weft::platform {

struct UringOptions {
  uint32_t submission_entries = 1024;
  uint32_t completion_entries = 8192;
  // The following imitate older kernels for the tests and for bug hunts in the field.
  // IORING_SETUP_* flags that may be tried.
  uint32_t setup_flags_allowed = ~uint32_t{0};
  // Register the ring and close its descriptor (Linux 5.18).
  bool hide_descriptor = true;
  // Wake through IORING_OP_FUTEX_WAIT (Linux 6.7), else through an eventfd.
  bool wake_by_futex = true;
};

class UringRing {
 public:
  static constexpr int64_t kNoTimeout = -1;

  // Sets the ring up for the calling kernel thread. Returns 0 or -errno; -ENOSYS also for a kernel
  // that has io_uring but not what we need of it (5.11).
  long open(const UringOptions& options);
  // Gives everything back. Nothing may be in flight.
  void close();

  // The next free entry, or null when the kernel must take some first. The entry counts as filled
  // from here on; it keeps what an earlier use left in it.
  io_uring_sqe* next_entry() {
    if (__builtin_expect(tail_ - head_seen_ == entries_, 0)) {
      head_seen_ = __atomic_load_n(submission_head_, __ATOMIC_ACQUIRE);
      if (tail_ - head_seen_ == entries_) return nullptr;
    }
    return &submissions_[tail_++ & submission_mask_];
  }

  // Entries filled that the kernel has not taken. Exact: the kernel takes them only inside enter().
  uint32_t pending() const {
    // Acquire: pairs with the kernel's release; what it has taken may be overwritten.
    return tail_ - __atomic_load_n(submission_head_, __ATOMIC_ACQUIRE);
  }

  // io_uring_enter(2): hands over all entries, then waits for `wait_count` completions or the
  // timeout. Returns how many entries were taken, or -errno.
  long enter(uint32_t wait_count, uint32_t flags, int64_t timeout_ns);

  // Whether completions wait inside the kernel until somebody enters it with GETEVENTS.
  bool must_enter() const {
    return (submission_flags() & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
  }
  bool overflowed() const { return (submission_flags() & IORING_SQ_CQ_OVERFLOW) != 0; }

  // Acquire: pairs with the kernel's release of the tail, makes the entries before it readable.
  uint32_t completion_tail() const { return __atomic_load_n(completion_tail_, __ATOMIC_ACQUIRE); }
  // Whether an entry is there, older than the given tail.
  bool has_completion(uint32_t tail) const {
    return static_cast<int32_t>(tail - *completion_head_) > 0;
  }
  // Takes the oldest entry off the ring.
  io_uring_cqe take_completion() {
    const uint32_t head = *completion_head_;  // only the owner writes it
    const io_uring_cqe entry = {completions_[head & completion_mask_].user_data,
                                completions_[head & completion_mask_].res, 0};
    // Release: the entry was read before the kernel may write over it.
    __atomic_store_n(completion_head_, head + 1, __ATOMIC_RELEASE);
    return entry;
  }

  // A ring descriptor that the program could see, because this kernel cannot hide it; else -1.
  int visible_fd() const { return visible_fd_; }
  // IORING_FEAT_* of this kernel.
  uint32_t features() const { return features_; }
  // IORING_SETUP_* that were granted.
  uint32_t setup_flags() const { return setup_flags_; }
  // Whether the kernel knows the operation code (IORING_REGISTER_PROBE).
  bool knows(uint32_t opcode) const { return opcode < 64 && ((known_opcodes_ >> opcode) & 1) != 0; }

 private:
  uint32_t submission_flags() const {
    // Relaxed: a hint. What it announces is found, at the latest, by the next look.
    return __atomic_load_n(submission_flags_, __ATOMIC_RELAXED);
  }
  long set_up(const UringOptions& options, io_uring_params& params);
  long map(const io_uring_params& params);
  void probe();
  void limit_helpers();
  void hide(bool allowed);

  // The owner's only; const after open() unless said otherwise.
  io_uring_sqe* submissions_ = nullptr;
  uint32_t* submission_head_ = nullptr;   // the kernel writes
  uint32_t* submission_tail_ = nullptr;   // enter() writes
  uint32_t* submission_flags_ = nullptr;  // the kernel writes
  uint32_t tail_ = 0;                     // changes: entries filled
  uint32_t head_seen_ = 0;                // changes: entries known to be taken
  uint32_t entries_ = 0;
  uint32_t submission_mask_ = 0;
  io_uring_cqe* completions_ = nullptr;
  uint32_t* completion_head_ = nullptr;  // take_completion() writes
  uint32_t* completion_tail_ = nullptr;  // the kernel writes
  uint32_t completion_mask_ = 0;
  int32_t enter_fd_ = -1;  // a descriptor, or the index of the registered ring
  uint32_t enter_flags_ = 0;

  void* rings_ = nullptr;
  size_t rings_bytes_ = 0;
  size_t submissions_bytes_ = 0;
  int32_t visible_fd_ = -1;
  uint32_t features_ = 0;
  uint32_t setup_flags_ = 0;
  uint64_t known_opcodes_ = 0;
};

// Moves a descriptor of ours out of the way of the program, which counts on the lowest free one.
// Returns its new number, close-on-exec.
long move_descriptor_high(long fd);

}  // namespace weft::platform
