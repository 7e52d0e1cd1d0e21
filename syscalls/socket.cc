// socket.cc - sending, receiving, accepting, connecting.
// A call with MSG_DONTWAIT never waits and passes; so does one on a non-blocking socket, made with
// MSG_DONTWAIT in case the hint is wrong.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "scheduler/io_wait.h"
#include "syscalls/call_table.h"
#include "syscalls/fd_table.h"
#include "syscalls/kernel.h"
#include "syscalls/signals.h"
#include "syscalls/socket_time.h"

namespace weft {
namespace {

using platform::kForever;
using platform::Op;
using platform::OpKind;

int64_t timeout_deadline(int fd, int option) {
  struct {
    int64_t seconds;
    int64_t microseconds;
  } value = {};
  int length = sizeof value;
  const long result = system_call(SYS_getsockopt, fd, SOL_SOCKET, option, address_of(&value),
                                  address_of(&length));
  if (result != 0 || (value.seconds == 0 && value.microseconds == 0)) return kForever;
  return deadline_after(to_ns({value.seconds, value.microseconds * 1000}));
}

// The call passes if it cannot wait, or if this kernel thread may be held.
bool passes(const CallFrame& frame, const FdHint& hint, uint64_t flags) {
  return hint.kind != FdKind::socket || hint.nonblocking || (flags & MSG_DONTWAIT) != 0 ||
         static_cast<int>(frame.rdi) < 0 || may_block_here();
}

// For a call that passed because of the hint. -EAGAIN on a socket that is blocking after all (its
// flag was cleared through another descriptor) sends it the sure way.
bool hint_was_wrong(const CallFrame& frame, const FdHint& hint, uint64_t flags, Result result) {
  if (result != -EAGAIN || !hint.nonblocking || (flags & MSG_DONTWAIT) != 0) return false;
  const auto fd = static_cast<int>(frame.rdi);
  const long status = system_call(SYS_fcntl, fd, F_GETFL);
  if (status < 0 || (status & O_NONBLOCK) != 0) return false;
  forget_fd(fd);
  return true;
}

Result finish_receive(Result result, const FdHint& hint) {
  // socket(7): a time-out is EAGAIN; signal(7): with one set, a handler always means EINTR.
  if (result == -ETIMEDOUT && hint.receive_timeout) return -EAGAIN;
  if (result == kRestartCall && hint.receive_timeout) return -EINTR;
  return result;
}

Result finish_send(Result result, const FdHint& hint, uint64_t flags) {
  if (result == -EPIPE && (flags & MSG_NOSIGNAL) == 0) send_broken_pipe_signal();
  if (result == -ETIMEDOUT && hint.send_timeout) return -EAGAIN;
  if (result == kRestartCall && hint.send_timeout) return -EINTR;
  return result;
}

uint32_t clamp_length(uint64_t length) {
  return length > 0x7ffff000 ? 0x7ffff000u : static_cast<uint32_t>(length);
}

// The passing form of a call whose hint says "non-blocking" must not hold the worker if the hint is
// wrong: MSG_DONTWAIT makes it sure.
Result pass_without_waiting(CallFrame& frame, uint64_t CallFrame::*flags_field,
                            const FdHint& hint) {
  if (!hint.nonblocking || may_block_here()) return kernel(frame);
  CallFrame attempt = frame;
  attempt.*flags_field |= MSG_DONTWAIT;
  return kernel(attempt);
}

}  // namespace

int64_t receive_deadline(int fd, const FdHint& hint) {
  return hint.receive_timeout ? timeout_deadline(fd, SO_RCVTIMEO) : kForever;
}

int64_t send_deadline(int fd, const FdHint& hint) {
  return hint.send_timeout ? timeout_deadline(fd, SO_SNDTIMEO) : kForever;
}

Result sys_recvfrom(CallFrame& frame) {
  const auto fd = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(fd);
  if (passes(frame, hint, frame.r10)) {
    const Result result = pass_without_waiting(frame, &CallFrame::r10, hint);
    if (!hint_was_wrong(frame, hint, frame.r10, result)) return result;
  }
  const int64_t deadline = receive_deadline(fd, hint);
  Op op;
  op.fd = fd;
  op.op_flags = static_cast<uint32_t>(frame.r10);
  if (frame.r8 == 0) {
    op.kind = OpKind::receive;
    op.address = frame.rsi;
    op.length = clamp_length(frame.rdx);
    return finish_receive(complete(op, deadline), hint);
  }
  // With an address wanted: as recvmsg(2) with one buffer.
  auto* address_length = pointer<uint32_t>(frame.r9);
  if (address_length == nullptr) return -EFAULT;
  if (static_cast<int32_t>(*address_length) < 0) return -EINVAL;
  iovec buffer{pointer<void>(frame.rsi), clamp_length(frame.rdx)};
  msghdr message = {};
  message.msg_name = pointer<void>(frame.r8);
  message.msg_namelen = *address_length;
  message.msg_iov = &buffer;
  message.msg_iovlen = 1;
  op.kind = OpKind::receive_message;
  op.address = reinterpret_cast<uintptr_t>(&message);
  const Result result = finish_receive(complete(op, deadline), hint);
  if (result >= 0) *address_length = message.msg_namelen;
  return result;
}

Result sys_sendto(CallFrame& frame) {
  const auto fd = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(fd);
  if (passes(frame, hint, frame.r10)) {
    const Result result = pass_without_waiting(frame, &CallFrame::r10, hint);
    if (!hint_was_wrong(frame, hint, frame.r10, result)) {
      return finish_send(result, FdHint{}, frame.r10);
    }
  }
  Op op;
  op.fd = fd;
  // io_uring answers a short count as soon as the buffer is full; send(2) on a blocking stream
  // socket goes on until all is sent. MSG_WAITALL asks the ring for that.
  op.op_flags = static_cast<uint32_t>(frame.r10) | MSG_WAITALL;
  const int64_t deadline = send_deadline(fd, hint);
  if (frame.r8 == 0) {
    op.kind = OpKind::send;
    op.address = frame.rsi;
    op.length = clamp_length(frame.rdx);
    return finish_send(complete(op, deadline), hint, frame.r10);
  }
  iovec buffer{pointer<void>(frame.rsi), clamp_length(frame.rdx)};
  msghdr message = {};
  message.msg_name = pointer<void>(frame.r8);
  message.msg_namelen = static_cast<socklen_t>(frame.r9);
  message.msg_iov = &buffer;
  message.msg_iovlen = 1;
  op.kind = OpKind::send_message;
  op.address = reinterpret_cast<uintptr_t>(&message);
  return finish_send(complete(op, deadline), hint, frame.r10);
}

Result sys_recvmsg(CallFrame& frame) {
  const auto fd = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(fd);
  if (passes(frame, hint, frame.rdx)) {
    const Result result = pass_without_waiting(frame, &CallFrame::rdx, hint);
    if (!hint_was_wrong(frame, hint, frame.rdx, result)) return result;
  }
  Op op;
  op.kind = OpKind::receive_message;
  op.fd = fd;
  op.address = frame.rsi;
  op.op_flags = static_cast<uint32_t>(frame.rdx);
  return finish_receive(complete(op, receive_deadline(fd, hint)), hint);
}

Result sys_sendmsg(CallFrame& frame) {
  const auto fd = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(fd);
  if (passes(frame, hint, frame.rdx)) {
    const Result result = pass_without_waiting(frame, &CallFrame::rdx, hint);
    if (!hint_was_wrong(frame, hint, frame.rdx, result)) {
      return finish_send(result, FdHint{}, frame.rdx);
    }
  }
  Op op;
  op.kind = OpKind::send_message;
  op.fd = fd;
  op.address = frame.rsi;
  op.op_flags = static_cast<uint32_t>(frame.rdx) | MSG_WAITALL;
  return finish_send(complete(op, send_deadline(fd, hint)), hint, frame.rdx);
}

namespace {

Result do_accept(CallFrame& frame, uint32_t flags) {
  const auto fd = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(fd);
  Result result;
  if (hint.kind != FdKind::socket || hint.nonblocking || may_block_here()) {
    if (hint.nonblocking && !may_block_here()) {
      // A wrong hint must not hold the worker: ask for readiness first.
      struct {
        int32_t fd;
        int16_t events;
        int16_t ready;
      } descriptor{fd, 1 /* POLLIN */, 0};
      const long ready = system_call(SYS_poll, address_of(&descriptor), 1, 0);
      if (ready == 0) {
        const long status = system_call(SYS_fcntl, fd, F_GETFL);
        if (status >= 0 && (status & O_NONBLOCK) != 0) return -EAGAIN;
        forget_fd(fd);
        return do_accept(frame, flags);
      }
    }
    result = kernel(frame);
  } else {
    Op op;
    op.kind = OpKind::accept;
    op.fd = fd;
    op.address = frame.rsi;
    op.second = frame.rsi == 0 ? 0 : frame.rdx;
    op.op_flags = flags;
    result = finish_receive(complete(op, receive_deadline(fd, hint)), hint);
  }
  if (result >= 0) {
    // The new socket is blocking unless asked otherwise, and inherits the listener's time-outs.
    set_fd_hint(static_cast<int>(result), {FdKind::socket, (flags & SOCK_NONBLOCK) != 0,
                                           hint.receive_timeout, hint.send_timeout});
  }
  return result;
}

}  // namespace

Result sys_accept(CallFrame& frame) { return do_accept(frame, 0); }
Result sys_accept4(CallFrame& frame) { return do_accept(frame, static_cast<uint32_t>(frame.r10)); }

Result sys_connect(CallFrame& frame) {
  const auto fd = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(fd);
  // Datagram sockets connect at once; the operation does that as well.
  if (hint.kind != FdKind::socket || hint.nonblocking || may_block_here()) return kernel(frame);
  Op op;
  op.kind = OpKind::connect;
  op.fd = fd;
  op.address = frame.rsi;
  op.second = frame.rdx;
  const Result result = complete(op, send_deadline(fd, hint));
  // socket(7): a connect that SO_SNDTIMEO ends is EINPROGRESS.
  if (result == -ETIMEDOUT && hint.send_timeout) return -EINPROGRESS;
  if (result == kRestartCall && hint.send_timeout) return -EINTR;
  return result;
}

Result sys_setsockopt(CallFrame& frame) {
  const Result result = kernel(frame);
  const bool timeout = frame.rsi == SOL_SOCKET &&
                       (frame.rdx == SO_RCVTIMEO || frame.rdx == SO_SNDTIMEO ||
                        frame.rdx == 66 /* SO_RCVTIMEO_NEW */ || frame.rdx == 67);
  // Learned anew at the next use.
  if (result == 0 && timeout) forget_fd(static_cast<int>(frame.rdi));
  return result;
}

Result sys_recvmmsg(CallFrame& frame) {
  auto* messages = pointer<mmsghdr>(frame.rsi);
  const auto count = static_cast<uint32_t>(frame.rdx);
  const uint64_t flags = frame.r10 & ~uint64_t{MSG_WAITFORONE};
  int64_t deadline = kForever;
  if (const auto* timeout = pointer<const KernelTime>(frame.r8); timeout != nullptr) {
    if (!is_valid(*timeout)) return -EINVAL;
    deadline = deadline_after(to_ns(*timeout));
  }
  Result result = 0;
  uint32_t received = 0;
  while (received < count) {
    CallFrame one = frame;
    one.number = SYS_recvmsg;
    one.rsi = reinterpret_cast<uintptr_t>(&messages[received].msg_hdr);
    one.rdx = flags;
    if ((frame.r10 & MSG_WAITFORONE) != 0 && received > 0) one.rdx |= MSG_DONTWAIT;
    result = sys_recvmsg(one);
    if (result < 0) break;
    messages[received].msg_len = static_cast<uint32_t>(result);
    received++;
    // recvmmsg(2): the time-out is looked at after each datagram only.
    if (deadline != kForever && current_worker()->netpoller->now_ns() >= deadline) break;
  }
  return received > 0 ? static_cast<Result>(received) : result;
}

Result sys_sendmmsg(CallFrame& frame) {
  auto* messages = pointer<mmsghdr>(frame.rsi);
  auto count = static_cast<uint32_t>(frame.rdx);
  if (count > 1024) count = 1024;  // UIO_MAXIOV, as the kernel caps it
  Result result = 0;
  uint32_t sent = 0;
  while (sent < count) {
    CallFrame one = frame;
    one.number = SYS_sendmsg;
    one.rsi = reinterpret_cast<uintptr_t>(&messages[sent].msg_hdr);
    one.rdx = frame.r10;
    result = sys_sendmsg(one);
    if (result < 0) break;
    messages[sent].msg_len = static_cast<uint32_t>(result);
    sent++;
  }
  return sent > 0 ? static_cast<Result>(sent) : result;
}

}  // namespace weft
