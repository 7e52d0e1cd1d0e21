// readiness.cc - poll, select and epoll_wait: asked at once, then one poll operation per descriptor.
// The netpoller only tells that something happened; the answer is always the kernel's own, from a
// second call with a zero time-out, so levels, edges, one-shot and POLLNVAL are exact. Nothing here
// sleeps in slices. A set so large that its operations would flood the queue goes to the pool.
// SPDX-License-Identifier: Apache-2.0
#include <sys/syscall.h>

#include "platform/os.h"
#include "scheduler/io_wait.h"
#include "syscalls/call_table.h"
#include "syscalls/kernel.h"
#include "syscalls/signals.h"
#include "syscalls/thread.h"

namespace weft {
namespace {

using platform::kForever;
using platform::OpKind;

struct PollFd {  // struct pollfd
  int32_t fd;
  int16_t events;
  int16_t ready;
};

constexpr uint32_t kPollIn = 1;
constexpr uint32_t kPollPri = 2;
constexpr uint32_t kPollOut = 4;
constexpr uint32_t kPollErr = 8;
constexpr uint32_t kPollHup = 16;
// Operations kept on the stack; more come from a mapping of the call's own.
constexpr uint32_t kOnStack = 32;
// FD_SETSIZE of glibc; the kernel takes more, and so do we.
constexpr uint32_t kSelectMax = 65536;

// A look without waiting. The kernel answers EINTR when a signal waits for this kernel thread (a
// poke of ours, or one that is noted on the way and ends the wait that follows): look again.
Result poll_now(PollFd* fds, uint64_t count) {
  Result result;
  do {
    result = system_call(SYS_poll, address_of(fds), static_cast<long>(count), 0);
  } while (result == -EINTR);
  return result;
}

// Parks until something happens on one of the descriptors. 0, -ETIMEDOUT or an interrupt's code.
Result wait_for_any(const PollFd* fds, uint64_t count, int64_t deadline_ns) {
  IoCompletion on_stack[kOnStack];
  IoCompletion* completions = on_stack;
  size_t mapped_bytes = 0;
  if (count > kOnStack) {
    mapped_bytes = (count * sizeof(IoCompletion) + platform::kPageBytes - 1) &
                   ~(platform::kPageBytes - 1);
    completions = static_cast<IoCompletion*>(platform::map_memory(mapped_bytes));
    if (completions == nullptr) return -ENOMEM;
  }
  uint32_t used = 0;
  for (uint64_t i = 0; i < count; i++) {
    if (fds[i].fd < 0) continue;  // poll(2): ignored
    IoCompletion& completion = completions[used++];
    completion = IoCompletion{};
    completion.op.kind = OpKind::poll;
    completion.op.fd = fds[i].fd;
    completion.op.op_flags = static_cast<uint16_t>(fds[i].events);
  }
  IoOutcome outcome;
  if (used == 0) {
    outcome = sleep_until(deadline_ns);
  } else {
    outcome = park_on(completions, used, deadline_ns, true, WaitReason::poll);
  }
  if (mapped_bytes != 0) platform::unmap_memory(completions, mapped_bytes);
  if (outcome == IoOutcome::timed_out) return -ETIMEDOUT;
  // poll(2) is never restarted after a handler (signal(7)).
  if (outcome == IoOutcome::interrupted) return kRestartUnlessHandled;
  return 0;
}

Result poll_until(PollFd* fds, uint64_t count, int64_t deadline_ns) {
  for (;;) {
    Result result = poll_now(fds, count);
    if (result != 0 || deadline_ns == platform::kNow) return result;
    result = wait_for_any(fds, count, deadline_ns);
    if (result == -ETIMEDOUT) return poll_now(fds, count);
    if (result < 0) return result;
    // Something happened; if another thread was faster, wait again.
  }
}

// A signal mask for the time of the wait (ppoll(2)): set now, taken back by the gate after the
// handlers ran, or by us when nothing interrupted.
class MaskForWait {
 public:
  explicit MaskForWait(const uint64_t* mask) {
    if (mask != nullptr) replace_mask_for_wait(current_thread(), *mask);
    set_ = mask != nullptr;
  }
  Result finish(Result result) {
    if (set_ && result != kRestartUnlessHandled) restore_mask_after_wait(current_thread());
    return result;
  }

 private:
  bool set_;
};

bool is_bad_mask(const uint64_t* mask, uint64_t bytes) { return mask != nullptr && bytes != 8; }

// The deadline of an optional timespec; false: it is malformed.
bool deadline_of(const KernelTime* timeout, int64_t& deadline_ns) {
  deadline_ns = kForever;
  if (timeout == nullptr) return true;
  if (!is_valid(*timeout)) return false;
  deadline_ns = (timeout->seconds | timeout->nanoseconds) == 0 ? platform::kNow
                                                               : call_deadline(to_ns(*timeout));
  return true;
}

int64_t deadline_of_ms(int milliseconds) {
  if (milliseconds < 0) return kForever;
  if (milliseconds == 0) return platform::kNow;
  return call_deadline(int64_t{milliseconds} * 1'000'000);
}

// What Linux writes back into the time-out of ppoll, select and pselect6: the time left.
KernelTime time_left(int64_t deadline_ns) {
  const int64_t left = deadline_ns - current_worker()->netpoller->now_ns();
  return from_ns(left > 0 ? left : 0);
}

}  // namespace

Result sys_poll(CallFrame& frame) {
  if (may_block_here()) return kernel(frame);
  return poll_until(pointer<PollFd>(frame.rdi), frame.rsi,
                    deadline_of_ms(static_cast<int>(frame.rdx)));
}

Result sys_ppoll(CallFrame& frame) {
  auto* timeout = pointer<KernelTime>(frame.rdx);
  const auto* mask = pointer<const uint64_t>(frame.r10);
  int64_t deadline;
  if (!deadline_of(timeout, deadline) || is_bad_mask(mask, frame.r8)) return -EINVAL;
  MaskForWait masked(mask);
  const Result result =
      masked.finish(poll_until(pointer<PollFd>(frame.rdi), frame.rsi, deadline));
  if (timeout != nullptr && deadline != platform::kNow) *timeout = time_left(deadline);
  return result;
}

namespace {

// select(2) sets as the poll events that the kernel uses for them (fs/select.c).
constexpr uint32_t kSelectRead = kPollIn | 0x40 | 0x80 | kPollHup | kPollErr;
constexpr uint32_t kSelectWrite = kPollOut | 0x100 | 0x200 | kPollErr;
constexpr uint32_t kSelectExcept = kPollPri;

bool is_member(const uint64_t* set, uint32_t fd) {
  return set != nullptr && ((set[fd / 64] >> (fd % 64)) & 1) != 0;
}

struct SelectSets {
  uint64_t* read;
  uint64_t* write;
  uint64_t* except;
};

// One look: the kernel's select with copies of the sets, which are written back on success.
Result select_now(uint32_t count, const SelectSets& sets) {
  const KernelTime zero{0, 0};
  KernelTime timeout = zero;
  uint64_t* const originals[3] = {sets.read, sets.write, sets.except};
  const uint32_t words = (count + 63) / 64;
  constexpr uint32_t kStackWords = 1024 / 64;
  uint64_t on_stack[3][kStackWords];
  if (words > kStackWords) return -EINVAL;
  for (int set = 0; set < 3; set++) {
    for (uint32_t i = 0; i < words && originals[set] != nullptr; i++) {
      on_stack[set][i] = originals[set][i];
    }
  }
  auto argument = [&](int set) {
    return originals[set] == nullptr ? 0 : address_of(on_stack[set]);
  };
  Result result;
  do {  // EINTR: as in poll_now(); the sets are not written then (select(2))
    result = system_call(SYS_pselect6, count, argument(0), argument(1), argument(2),
                         address_of(&timeout), 0);
  } while (result == -EINTR);
  if (result > 0) {
    for (int set = 0; set < 3; set++) {
      for (uint32_t i = 0; i < words && originals[set] != nullptr; i++) {
        originals[set][i] = on_stack[set][i];
      }
    }
  }
  return result;
}

void clear_sets(uint32_t count, const SelectSets& sets) {
  for (uint64_t* set : {sets.read, sets.write, sets.except}) {
    for (uint32_t i = 0; set != nullptr && i < (count + 63) / 64; i++) set[i] = 0;
  }
}

// The sets as poll descriptors. Returns how many.
uint32_t to_poll(uint32_t count, const SelectSets& sets, PollFd* fds) {
  uint32_t used = 0;
  for (uint32_t fd = 0; fd < count; fd++) {
    uint32_t events = 0;
    if (is_member(sets.read, fd)) events |= kSelectRead;
    if (is_member(sets.write, fd)) events |= kSelectWrite;
    if (is_member(sets.except, fd)) events |= kSelectExcept;
    if (events != 0) {
      fds[used++] = {static_cast<int32_t>(fd), static_cast<int16_t>(events), 0};
    }
  }
  return used;
}

Result select_until(uint32_t count, const SelectSets& sets, int64_t deadline_ns) {
  constexpr uint32_t kMax = 1024;
  PollFd fds[kMax];
  for (;;) {
    Result result = select_now(count, sets);
    if (result < 0) return result;
    if (result == 0 && deadline_ns != platform::kNow) {
      result = wait_for_any(fds, to_poll(count, sets, fds), deadline_ns);
      if (result == 0) continue;
      if (result != -ETIMEDOUT) return result;
      result = select_now(count, sets);
    }
    if (result == 0) clear_sets(count, sets);
    return result;
  }
}

bool selects_here(const CallFrame& frame) {
  return static_cast<int>(frame.rdi) < 0 || frame.rdi > 1024 || may_block_here();
}

}  // namespace

Result sys_select(CallFrame& frame) {
  // Sets larger than FD_SETSIZE: the pool does the call whole.
  if (selects_here(frame)) return frame.rdi > 1024 ? off_load(frame) : kernel(frame);
  struct Timeval {
    int64_t seconds;
    int64_t microseconds;
  };
  auto* timeout = pointer<Timeval>(frame.r8);
  int64_t deadline = kForever;
  if (timeout != nullptr) {
    // select(2): the kernel normalises microseconds above a million.
    const KernelTime time{timeout->seconds + timeout->microseconds / 1'000'000,
                          timeout->microseconds % 1'000'000 * 1000};
    if (!deadline_of(&time, deadline)) return -EINVAL;
  }
  const SelectSets sets{pointer<uint64_t>(frame.rsi), pointer<uint64_t>(frame.rdx),
                        pointer<uint64_t>(frame.r10)};
  const Result result = select_until(static_cast<uint32_t>(frame.rdi), sets, deadline);
  if (timeout != nullptr && deadline != platform::kNow) {
    const KernelTime left = time_left(deadline);
    *timeout = {left.seconds, left.nanoseconds / 1000};
  }
  return result;
}

Result sys_pselect6(CallFrame& frame) {
  if (selects_here(frame)) return frame.rdi > 1024 ? off_load(frame) : kernel(frame);
  auto* timeout = pointer<KernelTime>(frame.r8);
  struct MaskArgument {
    const uint64_t* mask;
    uint64_t bytes;
  };
  const auto* argument = pointer<const MaskArgument>(frame.r9);
  const uint64_t* mask = argument == nullptr ? nullptr : argument->mask;
  int64_t deadline;
  if (!deadline_of(timeout, deadline) ||
      (mask != nullptr && is_bad_mask(mask, argument->bytes))) {
    return -EINVAL;
  }
  MaskForWait masked(mask);
  const SelectSets sets{pointer<uint64_t>(frame.rsi), pointer<uint64_t>(frame.rdx),
                        pointer<uint64_t>(frame.r10)};
  const Result result =
      masked.finish(select_until(static_cast<uint32_t>(frame.rdi), sets, deadline));
  if (timeout != nullptr && deadline != platform::kNow) *timeout = time_left(deadline);
  return result;
}

namespace {

Result epoll_until(const CallFrame& frame, int64_t deadline_ns) {
  CallFrame ask = frame;
  ask.number = SYS_epoll_wait;
  ask.r10 = 0;
  const auto epoll_fd = static_cast<int>(frame.rdi);
  for (;;) {
    Result result = kernel(ask);
    if (result == -EINTR) continue;  // as in poll_now()
    if (result != 0 || deadline_ns == platform::kNow) return result;
    // An epoll descriptor is readable when it has events (epoll(7)).
    result = wait_ready(epoll_fd, kPollIn, deadline_ns);
    if (result == -ETIMEDOUT) return kernel(ask);
    if (result == kRestartCall) return kRestartUnlessHandled;
    if (result < 0) return result;
  }
}

Result epoll_masked(CallFrame& frame, int64_t deadline_ns, const uint64_t* mask, uint64_t bytes) {
  if (is_bad_mask(mask, bytes)) return -EINVAL;
  MaskForWait masked(mask);
  return masked.finish(epoll_until(frame, deadline_ns));
}

}  // namespace

Result sys_epoll_wait(CallFrame& frame) {
  if (may_block_here()) return kernel(frame);
  return epoll_until(frame, deadline_of_ms(static_cast<int>(frame.r10)));
}

Result sys_epoll_pwait(CallFrame& frame) {
  return epoll_masked(frame, deadline_of_ms(static_cast<int>(frame.r10)),
                      pointer<const uint64_t>(frame.r8), frame.r9);
}

Result sys_epoll_pwait2(CallFrame& frame) {
  int64_t deadline;
  if (!deadline_of(pointer<const KernelTime>(frame.r10), deadline)) return -EINVAL;
  return epoll_masked(frame, deadline, pointer<const uint64_t>(frame.r8), frame.r9);
}

Result sys_io_uring_enter(CallFrame& frame) {
  // The program's own ring (InnoDB's, through liburing): hand in what there is to submit, then wait
  // for its descriptor to be readable, which is when its completion queue has an entry.
  constexpr uint64_t kGetEvents = 1;        // IORING_ENTER_GETEVENTS
  constexpr uint64_t kSqWait = 4;           // IORING_ENTER_SQ_WAIT
  constexpr uint64_t kExtendedArgument = 8;  // IORING_ENTER_EXT_ARG
  constexpr uint64_t kRegisteredRing = 16;  // IORING_ENTER_REGISTERED_RING
  if ((frame.r10 & (kSqWait | kRegisteredRing)) != 0) return off_load(frame);
  if ((frame.r10 & kGetEvents) == 0 || frame.rdx == 0 || may_block_here()) return kernel(frame);
  CallFrame ask = frame;
  ask.rdx = 0;
  ask.r10 &= ~kExtendedArgument;
  ask.r8 = 0;
  ask.r9 = 0;
  const Result submitted = kernel(ask);
  if (submitted < 0) return submitted;
  int64_t deadline = kForever;
  if ((frame.r10 & kExtendedArgument) != 0) {
    struct ExtendedArgument {
      uint64_t mask;
      uint32_t mask_bytes;
      uint32_t minimum_wait;
      uint64_t timeout;
    };
    const auto* argument = pointer<const ExtendedArgument>(frame.r8);
    if (argument == nullptr) return -EFAULT;
    if (!deadline_of(pointer<const KernelTime>(argument->timeout), deadline)) return -EINVAL;
  }
  const Result ready = wait_ready(static_cast<int>(frame.rdi), kPollIn, deadline);
  // What was submitted counts: an interrupted or timed-out wait is told only if nothing was.
  if (ready == -ETIMEDOUT) return submitted > 0 ? submitted : -62 /* ETIME */;
  if (ready == kRestartCall) return submitted > 0 ? submitted : -EINTR;
  if (ready < 0) return submitted > 0 ? submitted : ready;
  if (frame.rdx > 1) {
    // More than one completion is wanted: the first is there, the pool waits for the rest.
    CallFrame rest = frame;
    rest.rsi = 0;
    const Result waited = off_load(rest);
    if (waited < 0 && submitted == 0) return waited;
  }
  return submitted;
}

}  // namespace weft
