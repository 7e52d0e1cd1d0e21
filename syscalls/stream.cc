// stream.cc - read, write and their vector and positioned forms.
// Which way: an operation of the netpoller, unless the call is known to be a mere copy. A file in
// the page cache is tried with RWF_NOWAIT (preadv2(2)), which never waits; what misses the cache
// goes to the netpoller. Writes to files are done at once: they wait only under dirty throttling,
// where the watchdog sees the worker. Sockets and pipes go to the netpoller first: keeping both
// directions in the ring is worth 20 to 40 % at 100 connections (docs/benchmarks.md).
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <utility>

#include "syscalls/call_table.h"
#include "syscalls/fd_table.h"
#include "syscalls/kernel.h"
#include "syscalls/signals.h"
#include "syscalls/socket_time.h"

namespace weft {
namespace {

using platform::kFilePosition;
using platform::Op;
using platform::OpKind;

constexpr long kNoWait = 8;  // RWF_NOWAIT
constexpr uint64_t kTransferMax = 0x7ffff000;  // the kernel cuts every transfer there (read(2))

// -EAGAIN from a try without waiting: the answer for a non-blocking file, else the file would wait.
bool would_wait(int fd) {
  const long flags = system_call(SYS_fcntl, fd, F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) == 0;
}

Result finish_read(Result result, const FdHint& hint) {
  // SO_RCVTIMEO ends in EAGAIN, and a signal ends it in EINTR always (socket(7), signal(7)).
  if (result == -ETIMEDOUT && hint.receive_timeout) return -EAGAIN;
  if (result == kRestartCall && hint.receive_timeout) return -EINTR;
  return result;
}

Result finish_write(Result result, const FdHint& hint) {
  if (result == -EPIPE) send_broken_pipe_signal();
  if (result == -ETIMEDOUT && hint.send_timeout) return -EAGAIN;
  if (result == kRestartCall && hint.send_timeout) return -EINTR;
  return result;
}

// One buffer as a vector of one, for the calls that take flags.
Result try_read(const CallFrame& frame, const iovec* vector, uint64_t count, uint64_t offset,
                long flags) {
  return system_call(SYS_preadv2, static_cast<long>(frame.rdi), address_of(vector),
                     static_cast<long>(count), static_cast<long>(offset), 0, flags | kNoWait);
}

Result try_write(const CallFrame& frame, const iovec* vector, uint64_t count, uint64_t offset,
                 long flags) {
  return system_call(SYS_pwritev2, static_cast<long>(frame.rdi), address_of(vector),
                     static_cast<long>(count), static_cast<long>(offset), 0, flags | kNoWait);
}

struct Transfer {
  const iovec* vector;
  uint64_t count;
  uint64_t offset;  // kFilePosition: the file's own
  uint32_t rw_flags;
  bool single;      // vector is our own one-element form of a plain buffer
};

Op op_for(const CallFrame& frame, const Transfer& transfer, OpKind plain, OpKind vectored) {
  Op op;
  op.fd = static_cast<int>(frame.rdi);
  op.offset = transfer.offset;
  op.op_flags = transfer.rw_flags;
  // The plain form counts in 32 bits.
  if (transfer.single) {
    op.kind = plain;
    op.address = reinterpret_cast<uintptr_t>(transfer.vector->iov_base);
    const uint64_t bytes = transfer.vector->iov_len;
    op.length = static_cast<uint32_t>(bytes > kTransferMax ? kTransferMax : bytes);
  } else {
    op.kind = vectored;
    op.address = reinterpret_cast<uintptr_t>(transfer.vector);
    op.length = static_cast<uint32_t>(transfer.count);
  }
  return op;
}

Result do_read(CallFrame& frame, const Transfer& transfer) {
  const int fd = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(fd);
  if (hint.kind == FdKind::bad || hint.kind == FdKind::memory || may_block_here()) {
    return kernel(frame);
  }
  if (hint.kind == FdKind::device) return off_load(frame);
  if (hint.kind == FdKind::regular || hint.nonblocking) {
    const Result result =
        try_read(frame, transfer.vector, transfer.count, transfer.offset, transfer.rw_flags);
    if (result != -EAGAIN && result != -EOPNOTSUPP) return result;
    if (result == -EAGAIN && !would_wait(fd)) return -EAGAIN;
  }
  if (transfer.count > 1024) return kernel(frame);  // IOV_MAX: the kernel's EINVAL
  if (hint.kind == FdKind::socket && transfer.single) {
    // read(2) on a socket is recv(2) without flags, and the ring does that by a shorter way.
    Op op;
    op.kind = OpKind::receive;
    op.fd = fd;
    op.address = reinterpret_cast<uintptr_t>(transfer.vector->iov_base);
    const uint64_t bytes = transfer.vector->iov_len;
    op.length = static_cast<uint32_t>(bytes > kTransferMax ? kTransferMax : bytes);
    return finish_read(complete(op, receive_deadline(fd, hint)), hint);
  }
  return finish_read(complete(op_for(frame, transfer, OpKind::read, OpKind::read_vector),
                              receive_deadline(fd, hint)),
                     hint);
}

// write(2) on a socket is send(2) without flags. As a send operation it goes on until all is sent
// (MSG_WAITALL), holding the socket the while, as the blocking call does.
Result send_all(const CallFrame& frame, const Transfer& transfer, int64_t deadline) {
  Op op;
  op.fd = static_cast<int>(frame.rdi);
  op.op_flags = MSG_WAITALL;
  if (transfer.single) {
    op.kind = OpKind::send;
    op.address = reinterpret_cast<uintptr_t>(transfer.vector->iov_base);
    const uint64_t bytes = transfer.vector->iov_len;
    op.length = static_cast<uint32_t>(bytes > kTransferMax ? kTransferMax : bytes);
    return complete(op, deadline);
  }
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(transfer.vector);
  message.msg_iovlen = transfer.count;
  op.kind = OpKind::send_message;
  op.address = reinterpret_cast<uintptr_t>(&message);
  return complete(op, deadline);
}

uint64_t bytes_of(const Transfer& transfer) {
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < transfer.count; i++) bytes += transfer.vector[i].iov_len;
  return bytes;
}

// A blocking write to a pipe goes on until all is written (write(2), pipe(7)); the operation answers
// as soon as the buffer is full. So the rest is written in further operations; an error or a signal
// after the first bytes is a short count. What cannot fit a pipe at once is written by the pool: the
// call must hold the pipe while it waits, even if another thread closes the descriptor.
Result write_all(CallFrame& frame, const Transfer& transfer, int64_t deadline) {
  constexpr uint64_t kPipeBytes = 65536;  // the default capacity, pipe(7)
  const uint64_t wanted = bytes_of(transfer);
  if (wanted > kPipeBytes && transfer.offset == kFilePosition) {
    const Result result = off_load(frame);
    if (result != kRestartCall) return result;
    // A signal came before the pool had begun. The call had: what there is room for is written.
    const Result some =
        try_write(frame, transfer.vector, transfer.count, transfer.offset, transfer.rw_flags);
    return some > 0 ? some : result;
  }
  Result result = complete(op_for(frame, transfer, OpKind::write, OpKind::write_vector), deadline);
  if (result <= 0 || static_cast<uint64_t>(result) >= wanted) return result;
  auto written = static_cast<uint64_t>(result);
  uint64_t skipped = 0;  // bytes of the elements before `i`
  for (uint64_t i = 0; i < transfer.count;) {
    const iovec& element = transfer.vector[i];
    if (written >= skipped + element.iov_len) {
      skipped += element.iov_len;
      i++;
      continue;
    }
    const uint64_t inside = written - skipped;
    const iovec rest{static_cast<char*>(element.iov_base) + inside, element.iov_len - inside};
    const Transfer part{&rest, 1, kFilePosition, transfer.rw_flags, true};
    result = complete(op_for(frame, part, OpKind::write, OpKind::write_vector), deadline);
    if (result <= 0) break;
    written += static_cast<uint64_t>(result);
  }
  return static_cast<Result>(written);
}

Result do_write(CallFrame& frame, const Transfer& transfer) {
  const int fd = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(fd);
  if (hint.kind == FdKind::bad || hint.kind == FdKind::memory || hint.kind == FdKind::regular ||
      may_block_here()) {
    return finish_write(kernel(frame), hint);
  }
  if (hint.kind == FdKind::device) return off_load(frame);
  if (hint.nonblocking) {
    const Result result =
        try_write(frame, transfer.vector, transfer.count, transfer.offset, transfer.rw_flags);
    if (result != -EAGAIN && result != -EOPNOTSUPP) return finish_write(result, hint);
    if (result == -EAGAIN && !would_wait(fd)) return -EAGAIN;
  }
  if (transfer.count > 1024) return kernel(frame);
  const int64_t deadline = send_deadline(fd, hint);
  const Result result = hint.kind == FdKind::socket && transfer.offset == kFilePosition
                            ? send_all(frame, transfer, deadline)
                            : write_all(frame, transfer, deadline);
  return finish_write(result, hint);
}

Transfer whole(const iovec& buffer, uint64_t offset) {
  return {&buffer, 1, offset, 0, true};
}

iovec buffer_of(const CallFrame& frame) { return {pointer<void>(frame.rsi), frame.rdx}; }

// preadv and pwritev pass the offset in two halves for 32-bit systems; on x86-64 the low one has it
// all (preadv(2), "C library/kernel differences").
Transfer vector_of(const CallFrame& frame, uint64_t offset, uint32_t flags) {
  return {pointer<const iovec>(frame.rsi), frame.rdx, offset, flags, false};
}

// A given offset must not be negative; -1 would mean the file's position to the netpoller.
bool is_bad_offset(uint64_t offset) { return static_cast<int64_t>(offset) < 0; }

}  // namespace

Result sys_read(CallFrame& frame) {
  const iovec buffer = buffer_of(frame);
  return do_read(frame, whole(buffer, kFilePosition));
}

Result sys_write(CallFrame& frame) {
  const iovec buffer = buffer_of(frame);
  return do_write(frame, whole(buffer, kFilePosition));
}

Result sys_readv(CallFrame& frame) { return do_read(frame, vector_of(frame, kFilePosition, 0)); }
Result sys_writev(CallFrame& frame) { return do_write(frame, vector_of(frame, kFilePosition, 0)); }

Result sys_pread64(CallFrame& frame) {
  if (is_bad_offset(frame.r10)) return kernel(frame);
  const iovec buffer = buffer_of(frame);
  return do_read(frame, whole(buffer, frame.r10));
}

Result sys_pwrite64(CallFrame& frame) {
  if (is_bad_offset(frame.r10)) return kernel(frame);
  const iovec buffer = buffer_of(frame);
  return do_write(frame, whole(buffer, frame.r10));
}

Result sys_preadv(CallFrame& frame) {
  if (is_bad_offset(frame.r10)) return kernel(frame);
  return do_read(frame, vector_of(frame, frame.r10, 0));
}

Result sys_pwritev(CallFrame& frame) {
  if (is_bad_offset(frame.r10)) return kernel(frame);
  return do_write(frame, vector_of(frame, frame.r10, 0));
}

Result sys_preadv2(CallFrame& frame) {
  const auto flags = static_cast<uint32_t>(frame.r9);
  if ((flags & kNoWait) != 0) return kernel(frame);
  if (frame.r10 != kFilePosition && is_bad_offset(frame.r10)) return kernel(frame);
  return do_read(frame, vector_of(frame, frame.r10, flags));
}

Result sys_pwritev2(CallFrame& frame) {
  const auto flags = static_cast<uint32_t>(frame.r9);
  if ((flags & kNoWait) != 0) return kernel(frame);
  if (frame.r10 != kFilePosition && is_bad_offset(frame.r10)) return kernel(frame);
  return do_write(frame, vector_of(frame, frame.r10, flags));
}

// Waits until something can be moved, then lets the pool do the call: splice(2) obeys O_NONBLOCK of
// a socket but not SPLICE_F_NONBLOCK, so only a thread that may block can do it for certain. (On the
// ring it is handed to a kernel worker always; the pool's threads are counted, and ours.)
Result sys_splice(CallFrame& frame) {
  constexpr uint32_t kNonBlock = 2;  // SPLICE_F_NONBLOCK
  const int source = static_cast<int>(frame.rdi);
  const int target = static_cast<int>(frame.rdx);
  if (may_block_here()) return kernel(frame);
  if ((frame.r9 & kNonBlock) == 0) {
    for (const auto& [fd, events] : {std::pair{source, 1u /* POLLIN */}, {target, 4u}}) {
      const FdHint hint = fd_hint(fd);
      if (!is_pollable(hint.kind) || hint.nonblocking) continue;
      const Result ready = wait_ready(fd, events, platform::kForever);
      if (ready < 0) return ready;
    }
  }
  const Result result = off_load(frame);
  if (result == -EPIPE) send_broken_pipe_signal();
  return result;
}

Result sys_tee(CallFrame& frame) {
  constexpr uint32_t kNonBlock = 2;
  if ((frame.r10 & kNonBlock) != 0) return kernel(frame);
  for (;;) {
    CallFrame attempt = frame;
    attempt.r10 |= kNonBlock;
    Result result = kernel(attempt);
    if (result != -EAGAIN) return result;
    result = wait_ready(static_cast<int>(frame.rdi), 1 /* POLLIN */, platform::kForever);
    if (result < 0) return result;
    result = wait_ready(static_cast<int>(frame.rsi), 4 /* POLLOUT */, platform::kForever);
    if (result < 0) return result;
  }
}

}  // namespace weft
