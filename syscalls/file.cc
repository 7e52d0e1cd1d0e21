// file.cc - opening, closing and controlling descriptors, and copying between them.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "syscalls/call_table.h"
#include "syscalls/fd_table.h"
#include "syscalls/kernel.h"
#include "syscalls/proc_files.h"
#include "syscalls/runtime.h"
#include "syscalls/signals.h"

namespace weft {
namespace {

// A FIFO waits for its other end and a device may for its carrier (open(2), fifo(7)). Everything
// else opens at the speed of the file system.
bool open_may_wait(int directory, uint64_t path, uint64_t flags) {
  if ((flags & (O_NONBLOCK | O_PATH | O_DIRECTORY | O_TMPFILE)) != 0 || may_block_here()) {
    return false;
  }
  // O_RDWR on a FIFO does not wait; O_CREAT|O_EXCL makes a regular file.
  if ((flags & O_ACCMODE) == O_RDWR && (flags & O_EXCL) != 0) return false;
  struct statx status = {};
  const long result = system_call(SYS_statx, directory, static_cast<long>(path), 0, STATX_TYPE,
                                  address_of(&status));
  if (result != 0) return false;
  const auto type = status.stx_mode & S_IFMT;
  if (type == S_IFCHR) return status.stx_rdev_major != 1;  // null, zero, random do not wait
  return type == S_IFIFO;
}

Result do_open(CallFrame& frame, int directory, uint64_t path, uint64_t flags) {
  Result result = open_thread_file(path, flags);
  if (result == kNotOurFile) {
    result = open_may_wait(directory, path, flags) ? off_load(frame) : kernel(frame);
  }
  // The number may carry a hint of a descriptor that was closed where we could not see it.
  if (result >= 0) forget_fd(static_cast<int>(result));
  return result;
}

}  // namespace

Result sys_open(CallFrame& frame) { return do_open(frame, AT_FDCWD, frame.rdi, frame.rsi); }

Result sys_creat(CallFrame& frame) {
  return do_open(frame, AT_FDCWD, frame.rdi, O_CREAT | O_WRONLY | O_TRUNC);
}

Result sys_openat(CallFrame& frame) {
  return do_open(frame, static_cast<int>(frame.rdi), frame.rsi, frame.rdx);
}

Result sys_openat2(CallFrame& frame) {
  const auto* how = pointer<const open_how>(frame.rdx);
  if (how == nullptr) return kernel(frame);
  return do_open(frame, static_cast<int>(frame.rdi), frame.rsi, how->flags);
}

Result sys_close(CallFrame& frame) {
  const auto fd = static_cast<int>(frame.rdi);
  // Before the call: afterwards the number may be another thread's new descriptor.
  forget_fd(fd);
  close_thread_file(fd);
  if (g_runtime.hooks.descriptor_closing != nullptr) g_runtime.hooks.descriptor_closing(fd);
  return kernel(frame);
}

Result sys_close_range(CallFrame& frame) {
  forget_fds(static_cast<uint32_t>(frame.rdi), static_cast<uint32_t>(frame.rsi));
  constexpr uint64_t kUnshare = 2;  // CLOSE_RANGE_UNSHARE
  if ((frame.rdx & kUnshare) != 0) return bind(frame);
  return kernel(frame);
}

Result sys_dup(CallFrame& frame) {
  note_duplicate();
  const Result result = kernel(frame);
  if (result >= 0) forget_fd(static_cast<int>(result));
  return result;
}

Result sys_dup2(CallFrame& frame) {
  note_duplicate();
  forget_fd(static_cast<int>(frame.rsi));
  return kernel(frame);
}

Result sys_dup3(CallFrame& frame) { return sys_dup2(frame); }

Result sys_fcntl(CallFrame& frame) {
  const auto command = static_cast<int>(frame.rsi);
  switch (command) {
    case F_SETLKW:
    case F_OFD_SETLKW:
      return off_load(frame);
    case F_SETFL:
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      if (command == F_SETFL) {
        const Result result = kernel(frame);
        forget_flags(static_cast<int>(frame.rdi));
        return result;
      }
      return sys_dup(frame);
    }
    default:
      return kernel(frame);
  }
}

Result sys_ioctl(CallFrame& frame) {
  const auto fd = static_cast<int>(frame.rdi);
  constexpr uint64_t kFionbio = 0x5421;
  if (frame.rsi == kFionbio) {
    const Result result = kernel(frame);
    forget_flags(fd);
    return result;
  }
  switch (frame.rsi) {
    case 0x5409:      // TCSBRK: waits for the terminal's output
    case 0x5403:      // TCSETSW
    case 0x5404:      // TCSETSF
    case 0x5425:      // TCSBRKP
    case 0x40049409:  // FICLONE
    case 0xc0185879:  // FITRIM
    case 0xc0045877:  // FIFREEZE
      return off_load(frame);
    default:
      return kernel(frame);
  }
}

Result sys_sendfile(CallFrame& frame) {
  const auto target = static_cast<int>(frame.rdi);
  const FdHint hint = fd_hint(target);
  if (!is_pollable(hint.kind) || hint.nonblocking || may_block_here()) {
    const Result result = kernel(frame);
    if (result == -EPIPE) send_broken_pipe_signal();
    return result;
  }
  // sendfile(2) on a blocking socket or pipe goes on until all is sent, so it would hold the
  // worker: the pool does it.
  const Result result = off_load(frame);
  if (result == -EPIPE) send_broken_pipe_signal();
  return result;
}

Result sys_io_uring_setup(CallFrame& frame) {
  struct Parameters {  // the head of struct io_uring_params
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t flags;
  };
  constexpr uint32_t kSingleIssuer = 1u << 12;  // IORING_SETUP_SINGLE_ISSUER
  const auto* parameters = pointer<const Parameters>(frame.rsi);
  if (parameters != nullptr && (parameters->flags & kSingleIssuer) != 0) return bind(frame);
  return kernel(frame);
}

Result sys_io_uring_register(CallFrame& frame) {
  constexpr uint64_t kRegisterRingFds = 20;    // IORING_REGISTER_RING_FDS
  constexpr uint64_t kUnregisterRingFds = 21;
  // A registered ring's index is the kernel thread's own, and the fiber may leave it. liburing goes
  // on with the plain descriptor when this is refused.
  const uint64_t operation = frame.rsi & 0x7fffffff;
  if ((operation == kRegisterRingFds || operation == kUnregisterRingFds) && !may_block_here()) {
    return -EINVAL;
  }
  return kernel(frame);
}

}  // namespace weft
