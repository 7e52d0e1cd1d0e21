// netpoller_uring.cc - operations to submission entries, completion entries to done().
// SPDX-License-Identifier: Apache-2.0
#include "platform/linux/netpoller_uring.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "platform/linux/system_call.h"
#include "platform/linux/uring_entry.h"
#include "platform/os.h"

namespace weft::platform {
namespace {

// FUTEX2_SIZE_U32 | FUTEX2_PRIVATE, newer than Debian 12's headers.
constexpr uint32_t kFutexPrivateWord = 2 | 128;

// user_data is the address of a Completion, which is 8-byte aligned, or one of these.
constexpr uint64_t kWakeTag = 1;
constexpr uint64_t kCancelTag = 2;
static_assert(alignof(Completion) >= 8);

// Attempts to make the kernel take entries when it lacks memory, each a system call that lets it
// finish work. Beyond this the process is lost anyhow.
constexpr int kEnterAttempts = 100'000;

void default_panic(const char* what, int64_t first, int64_t second) {
  char line[160];
  size_t length = 0;
  const auto append = [&](const char* text) {
    while (*text != 0 && length < sizeof line - 1) line[length++] = *text++;
  };
  const auto append_number = [&](int64_t value) {
    append(value < 0 ? ", -" : ", ");
    uint64_t rest =
        value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
    char digits[21] = {};
    char* text = digits + 20;
    do {
      *--text = static_cast<char>('0' + rest % 10);
      rest /= 10;
    } while (rest != 0);
    append(text);
  };
  append("weft: panic: ");
  append(what);
  append_number(first);
  append_number(second);
  line[length++] = '\n';
  write_error(line, length);
  die();
}

constinit UringPanicHook g_panic_hook = default_panic;  // const after set_uring_panic_hook()

[[noreturn]] void panic(const char* what, int64_t first, int64_t second = 0) {
  g_panic_hook(what, first, second);
  die();
}

// The rare half of a result: what of the kernel's errors must not reach the caller as it is.
int64_t error_result(const Completion& completion, int64_t result) {
  // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ENOIOCTLCMD, ERESTART_RESTARTBLOCK: the kernel's
  // inner codes, which a completion of an interrupted helper thread may carry.
  if (result <= -512 && result >= -516) result = -EINTR;
  // A helper thread is interrupted by a cancel only: nothing was done.
  if (result == -EINTR && completion.cancelling) return -ECANCELED;
  return result;
}

Completion* completion_of(const io_uring_cqe& entry) {
  return reinterpret_cast<Completion*>(static_cast<uintptr_t>(entry.user_data));
}

bool is_internal(const io_uring_cqe& entry) {
  return entry.user_data <= kCancelTag;
}

}  // namespace

void set_uring_panic_hook(UringPanicHook hook) {
  g_panic_hook = hook;
}

bool UringNetpoller::start() {
  supported_ = 0;
  start_error_ = ring_.open(options_);
  if (start_error_ != 0) return false;
  learn_operations();
  wakes_by_futex_ = options_.wake_by_futex && ring_.knows(kOpFutexWait);
  if (!wakes_by_futex_) {
    const long fd = system_call(SYS_eventfd2, 0, EFD_CLOEXEC);
    if (fd < 0) {
      start_error_ = fd;
      ring_.close();
      return false;
    }
    wake_fd_ = static_cast<int32_t>(move_descriptor_high(fd));
  }
  // Linux 5.17. Cancel requests that succeeded say nothing then; the operation's own completion
  // says it all.
  if ((ring_.features() & IORING_FEAT_CQE_SKIP) != 0) cancel_flags_ = IOSQE_CQE_SKIP_SUCCESS;
  return true;
}

void UringNetpoller::stop() {
  if (in_flight_ != 0) panic("uring: stop() with operations in flight", in_flight_);
  ring_.close();
  if (wake_fd_ >= 0) system_call(SYS_close, wake_fd_);
  wake_fd_ = -1;
  wake_armed_ = false;
}

void UringNetpoller::learn_operations() {
  for (unsigned i = 0; i < static_cast<unsigned>(OpKind::count); i++) {
    io_uring_sqe entry = {};
    Op op;
    op.kind = static_cast<OpKind>(i);
    fill_entry(entry, op, 0);
    if (entry.opcode >= kOpWaitId && !options_.wake_by_futex) continue;
    if (ring_.knows(entry.opcode)) supported_ |= 1U << i;
  }
}

void UringNetpoller::submit(Completion& completion) {
  completion.cancelling = false;
  in_flight_++;
  if (__builtin_expect(!supports(completion.op.kind), 0)) {
    append_taken(completion, -ENOSYS);
    return;
  }
  fill_entry(next_entry(), completion.op, reinterpret_cast<uintptr_t>(&completion));
}

void UringNetpoller::cancel(Completion& completion) {
  if (completion.cancelling) return;
  completion.cancelling = true;
  // Entries are taken in order, so this one is matched after the operation's own and before any
  // later operation that reuses the memory: it hits the operation meant, or nothing.
  io_uring_sqe& entry = next_entry();
  entry = io_uring_sqe{};
  entry.opcode = IORING_OP_ASYNC_CANCEL;
  entry.flags = cancel_flags_;
  entry.fd = -1;
  entry.addr = reinterpret_cast<uintptr_t>(&completion);
  entry.user_data = kCancelTag;
}

io_uring_sqe& UringNetpoller::next_entry() {
  io_uring_sqe* entry = ring_.next_entry();
  for (int i = 0; __builtin_expect(entry == nullptr, 0); entry = ring_.next_entry()) {
    const long result = enter(0, 0);
    // EBUSY, EAGAIN: the kernel wants room in the completion ring, or memory, first.
    if (result < 0) {
      take_completions();
      enter(0, IORING_ENTER_GETEVENTS);
    }
    if (++i == kEnterAttempts) panic("uring: the kernel takes no operation", result);
  }
  return *entry;
}

void UringNetpoller::flush() {
  // Without SUBMIT_ALL the kernel stops behind an entry that failed at once: go on while it moves.
  while (ring_.pending() != 0) {
    if (enter(0, 0) <= 0) return;
  }
}

// io_uring_enter(2), ERRORS. Returns the entries taken, or one of the errors after which the next
// call may succeed.
long UringNetpoller::enter(uint32_t wait_count, uint32_t flags, int64_t timeout_ns) {
  const long result = ring_.enter(wait_count, flags, timeout_ns);
  if (__builtin_expect(result >= 0, 1)) return result;
  switch (result) {
    case -ETIME:   // the timeout of the wait passed
    case -EINTR:   // a signal ended the wait; entries that were handed over count all the same
    case -EAGAIN:  // no memory for a request now; nothing was taken
    case -EBUSY:   // completions wait for room in the ring; nothing was taken
      return result;
    case -EBADR:
      panic("uring: the kernel had no memory for a completion and dropped it", result);
    case -EEXIST:
      panic("uring: used by a kernel thread that is not its owner", result, kernel_thread_id());
    case -EBADF:       // the descriptor or the registration is gone: somebody closed it
    case -EBADFD:      // the ring is not enabled
    case -ENXIO:       // the ring is being torn down
    case -EOPNOTSUPP:  // the descriptor is not a ring
      panic("uring: the ring is gone", result, ring_.visible_fd());
    case -EINVAL:
      // A registered ring is registered for its owner only.
      panic("uring: not the owner's kernel thread, or a flag that this kernel does not know",
            result, kernel_thread_id());
    case -EFAULT:  // the timeout's address
    default:
      panic("uring: io_uring_enter failed", result);
  }
}

uint32_t UringNetpoller::poll(int64_t deadline_ns) {
  int64_t timeout_ns = 0;
  if (deadline_ns != kNow && taken_first_ == nullptr &&
      !ring_.has_completion(ring_.completion_tail())) {
    timeout_ns = deadline_ns;
    if (deadline_ns != kForever) timeout_ns -= now_ns();
  }
  if (timeout_ns > 0) {
    sleep(deadline_ns == kForever ? UringRing::kNoTimeout : timeout_ns);
  } else {
    consume_wake();
    if (ring_.pending() != 0 || ring_.must_enter()) enter(0, IORING_ENTER_GETEVENTS);
  }
  if (__builtin_expect(ring_.pending() != 0, 0)) flush();
  return deliver();
}

void UringNetpoller::sleep(int64_t timeout_ns) {
  uint32_t expected = awake;
  // The sleeper's step 1 of the head comment, paired with wake(). Acquire on failure: what the
  // waker made visible is seen by the caller.
  if (!__atomic_compare_exchange_n(&wake_word_, &expected, sleeping, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_ACQUIRE)) {
    consume_wake();
    enter(0, IORING_ENTER_GETEVENTS);
    return;
  }
  if (!wake_armed_) arm_wake();
  enter(1, IORING_ENTER_GETEVENTS, timeout_ns);
  // Acquire: pairs with the release in wake(), as above.
  __atomic_exchange_n(&wake_word_, awake, __ATOMIC_ACQ_REL);
}

void UringNetpoller::consume_wake() {
  // Relaxed: a hint that saves a locked instruction; a wake missed here ends the next poll().
  if (__atomic_load_n(&wake_word_, __ATOMIC_RELAXED) == awake) return;
  // Acquire: pairs with the release in wake().
  __atomic_exchange_n(&wake_word_, awake, __ATOMIC_ACQ_REL);
}

void UringNetpoller::arm_wake() {
  Op op;
  if (wakes_by_futex_) {
    op.kind = OpKind::futex_wait;
    op.address = reinterpret_cast<uintptr_t>(&wake_word_);
    op.second = sleeping;
    op.op_flags = kFutexPrivateWord;
    op.offset = FUTEX_BITSET_MATCH_ANY;
  } else {
    op.kind = OpKind::read;
    op.fd = wake_fd_;
    op.address = reinterpret_cast<uintptr_t>(&wake_count_);
    op.length = sizeof wake_count_;
  }
  fill_entry(next_entry(), op, kWakeTag);
  wake_armed_ = true;
}

void UringNetpoller::wake() {
  // Release publishes the caller's work; the full barrier stands between it and the look at who
  // sleeps (head comment).
  const uint32_t before = __atomic_exchange_n(&wake_word_, notified, __ATOMIC_SEQ_CST);
  if (before != sleeping) return;
  if (wakes_by_futex_) {
    system_call(SYS_futex, address_of(&wake_word_), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
  } else {
    const uint64_t one = 1;
    system_call(SYS_write, wake_fd_, address_of(&one), sizeof one);
  }
}

int64_t UringNetpoller::now_ns() {
  return monotonic_ns();
}

uint32_t UringNetpoller::deliver() {
  uint32_t delivered = deliver_taken();
  // done() may submit what completes at once: only what is in flight now is delivered, so that one
  // poll() ends.
  const uint32_t limit = in_flight_;
  for (uint32_t count = 0;;) {
    const uint32_t tail = ring_.completion_tail();
    // done() may submit into a full ring, which takes entries from here: look anew each time.
    while (ring_.has_completion(tail)) count += deliver_entry(ring_.take_completion());
    if (__builtin_expect(!ring_.overflowed(), 1) || count >= limit) {
      delivered += count;
      break;
    }
    enter(0, IORING_ENTER_GETEVENTS);
  }
  return delivered + deliver_taken();
}

uint32_t UringNetpoller::deliver_entry(const io_uring_cqe& entry) {
  if (__builtin_expect(is_internal(entry), 0)) {
    // A cancel's answer says nothing new: ENOENT (it had completed) or EALREADY (it is running).
    if (entry.user_data == kWakeTag) wake_armed_ = false;
    return 0;
  }
  Completion& completion = *completion_of(entry);
  completion.result =
      __builtin_expect(entry.res < 0, 0) ? error_result(completion, entry.res) : entry.res;
  in_flight_--;
  completion.done(completion);
  return 1;
}

uint32_t UringNetpoller::deliver_taken() {
  uint32_t delivered = 0;
  // Up to the last one of now: done() may add more, which are the next poll()'s.
  Completion* const last = taken_last_;
  while (__builtin_expect(taken_first_ != nullptr, 0)) {
    Completion& completion = *taken_first_;
    taken_first_ = completion.next;
    if (taken_first_ == nullptr) taken_last_ = nullptr;
    completion.next = nullptr;
    in_flight_--;
    delivered++;
    const bool is_last = &completion == last;
    completion.done(completion);
    if (is_last) break;
  }
  return delivered;
}

void UringNetpoller::take_completions() {
  const uint32_t tail = ring_.completion_tail();
  while (ring_.has_completion(tail)) {
    const io_uring_cqe entry = ring_.take_completion();
    if (is_internal(entry)) {
      if (entry.user_data == kWakeTag) wake_armed_ = false;
      continue;
    }
    Completion& completion = *completion_of(entry);
    append_taken(completion, entry.res < 0 ? error_result(completion, entry.res) : entry.res);
  }
}

void UringNetpoller::append_taken(Completion& completion, int64_t result) {
  completion.result = result;
  completion.next = nullptr;
  if (taken_last_ == nullptr) {
    taken_first_ = &completion;
  } else {
    taken_last_->next = &completion;
  }
  taken_last_ = &completion;
}

}  // namespace weft::platform
