// netpoller.h - the contract of a completion engine: operations go in, completions come out.
// The completion, not the readiness of a descriptor, is the waist of the runtime: io_uring and IOCP
// are this by nature, epoll and kqueue imitate it (try, arm, retry), the sim invents it from a seed.
//
//   submit(c)   takes an operation. It may start at once or at the next flush() or poll(), no later.
//               It never fails: an operation the engine cannot do completes with -ENOSYS.
//   flush()     hands everything submitted so far to the system, without waiting.
//   poll(t)     flushes, waits until a completion, a wake() or the deadline, then calls done() of
//               every completion there is, in order of arrival. done() may submit and cancel.
//               A signal, or a wake() that came late, may end it early with nothing: callers loop.
//   cancel(c)   asks that c end early. c still completes exactly once: with its own result if that
//               came first, else with -ECANCELED and no effect. Never both, never neither.
//   wake()      makes the present or the next poll() return. The only call for other threads.
//
// O_NONBLOCK is not looked at: an operation on such a descriptor may park (io_uring's do). Who must
// not wait says so in op_flags (MSG_DONTWAIT, RWF_NOWAIT), or makes the call itself.
//
// Owner: the one kernel thread that calls submit, flush, poll and cancel. A Completion and what its
// operation points to belong to the engine from submit() until done() is called.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft::platform {

enum class OpKind : uint8_t {
  read,        // fd, address, length, offset (kFilePosition: the file's own)
  write,       // as read
  read_vector,   // fd, address of iovec[length], offset, op_flags = RWF_*
  write_vector,  // as read_vector
  receive,     // fd, address, length, op_flags = MSG_*
  send,        // fd, address, length, op_flags = MSG_*
  receive_message,  // fd, address of msghdr, op_flags = MSG_*
  send_message,     // as receive_message
  accept,      // fd, address of sockaddr or null, second = address of its length or 0, op_flags
  connect,     // fd, address of sockaddr, second = its length
  poll,        // fd, op_flags = events of poll(2); the result is the ready events
  splice,      // fd = target, second_fd = source, offset and second = positions or kFilePosition,
               // length, op_flags = SPLICE_F_*
  tee,         // fd = target, second_fd = source, length, op_flags
  sync,        // fd, op_flags: 1 = data only
  futex_wait,  // address of the word, second = expected value, op_flags = FUTEX2_* flags,
               // offset = bit mask
  wait_id,     // fd = id, length = id type, op_flags = W*, address of siginfo
  count,
};

inline constexpr uint64_t kFilePosition = ~uint64_t{0};

// What to do. Which fields mean what is said at each OpKind.
struct Op {
  OpKind kind = OpKind::poll;
  int32_t fd = -1;
  int32_t second_fd = -1;
  uint32_t length = 0;
  uint32_t op_flags = 0;
  uint64_t address = 0;
  uint64_t second = 0;
  uint64_t offset = kFilePosition;
};

// One operation in flight. Caller-owned memory, no allocation in the engine. `next` is the engine's
// between submit() and done(), the caller's otherwise.
struct Completion {
  Op op;
  // Bytes or a descriptor or events, or -errno. Valid from done() on.
  int64_t result = 0;
  // Called by poll() on the owner. The engine no longer knows the completion then.
  void (*done)(Completion& self) = nullptr;
  Completion* next = nullptr;
  // The engine's: whether a cancel was already asked for, so that it is asked once.
  bool cancelling = false;
};

// A point in the engine's clock, nanoseconds. kNow: do not wait. kForever: no deadline.
inline constexpr int64_t kNow = 0;
inline constexpr int64_t kForever = INT64_MAX;

class Netpoller {
 public:
  virtual void submit(Completion& completion) = 0;
  virtual void flush() = 0;
  // Returns how many completions were delivered.
  virtual uint32_t poll(int64_t deadline_ns) = 0;
  virtual void cancel(Completion& completion) = 0;
  virtual void wake() = 0;
  // The clock that poll()'s deadlines are on: CLOCK_MONOTONIC, or the sim's virtual time.
  virtual int64_t now_ns() = 0;
  // Whether the engine can do the operation at all (an older kernel, another system).
  virtual bool supports(OpKind kind) const = 0;
  // Operations submitted and not yet delivered.
  virtual uint32_t in_flight() const = 0;
  // Called by the owner once, on the kernel thread that will call poll() from then on.
  virtual bool start() = 0;

 protected:
  // Engines live as long as the process (or their test): nobody deletes through this base.
  ~Netpoller() = default;
};

}  // namespace weft::platform
