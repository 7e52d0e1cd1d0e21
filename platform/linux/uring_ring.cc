// uring_ring.cc - setting an io_uring up step by step, for every kernel from 5.11 on.
// SPDX-License-Identifier: Apache-2.0
#include "platform/linux/uring_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "platform/linux/system_call.h"
#include "platform/os.h"

// Newer than Debian 12's headers.
#ifndef IORING_REGISTER_USE_REGISTERED_RING  // Linux 6.3
#define IORING_REGISTER_USE_REGISTERED_RING (1U << 31)
#endif
#ifndef IORING_ENTER_NO_IOWAIT  // Linux 6.15
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif

namespace weft::platform {
namespace {

// What the netpoller cannot do without: one mapping for both rings (5.4), no completion ever
// dropped (5.5), buffers of arguments free after submission (5.5), offset -1 as the file position
// (5.6), sockets without a helper thread each (5.7), a timeout in the wait itself (5.11).
constexpr uint32_t kNeededFeatures = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP |
                                     IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS |
                                     IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG;

// From the newest kernel to the oldest. DEFER_TASKRUN (6.1): completions are made when the owner
// asks for them, never by interrupting a fiber. COOP_TASKRUN (5.19): at the owner's next system
// call. TASKRUN_FLAG: a bit in memory says that asking would give something, so that poll(kNow)
// without work costs no system call. SUBMIT_ALL (5.18): one bad entry does not stop those behind.
constexpr uint32_t kSetupSteps[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SUBMIT_ALL,
    0,
};

// Helper threads of the kernel (io-wq) per ring: for regular files and for everything else. They
// are kernel threads of the process, seen in /proc and counted by its limits, so the number must
// not follow the number of fibers. Sockets, pipes, futexes and waits for children need none; a
// helper runs what has no asynchronous form: fsync, splice, tee, uncached or odd files.
constexpr uint32_t kFileHelpers = 2;
constexpr uint32_t kOtherHelpers = 2;

// Above what programs use for their own, and small enough to keep the descriptor table small.
constexpr uint64_t kHighDescriptor = 4000;

long register_ring(long fd, uint32_t opcode, void* argument, uint32_t count) {
  return system_call(SYS_io_uring_register, fd, static_cast<long>(opcode), address_of(argument),
                     static_cast<long>(count));
}

}  // namespace

long move_descriptor_high(long fd) {
  rlimit limit = {};
  system_call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, address_of(&limit));
  long moved = -EINVAL;
  if (limit.rlim_cur > kHighDescriptor + 64) {
    moved = system_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, static_cast<long>(kHighDescriptor));
  } else if (limit.rlim_cur > 128) {
    moved = system_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, static_cast<long>(limit.rlim_cur - 64));
  }
  if (moved < 0) return fd;  // the table is small or full: better in the way than not at all
  system_call(SYS_close, fd);
  return moved;
}

long UringRing::open(const UringOptions& options) {
  *this = UringRing();
  io_uring_params params = {};
  const long fd = set_up(options, params);
  if (fd < 0) return fd;
  enter_fd_ = visible_fd_ = static_cast<int32_t>(fd);
  features_ = params.features;
  setup_flags_ = params.flags;
  long result = -ENOSYS;
  if ((features_ & kNeededFeatures) == kNeededFeatures) result = map(params);
  if (result != 0) {
    close();
    return result;
  }
  // An idle server must not show as waiting for a disk in top(1).
  if ((features_ & IORING_FEAT_NO_IOWAIT) != 0) enter_flags_ |= IORING_ENTER_NO_IOWAIT;
  probe();
  limit_helpers();
  hide(options.hide_descriptor);
  return 0;
}

long UringRing::set_up(const UringOptions& options, io_uring_params& params) {
  // Memory of the rings counts against RLIMIT_MEMLOCK before 5.12: then smaller ones must do.
  for (uint32_t shrink = 1; shrink <= 64; shrink *= 8) {
    for (const uint32_t step : kSetupSteps) {
      if ((step & ~options.setup_flags_allowed) != 0) continue;
      params = io_uring_params{};
      params.flags = step | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
      const uint32_t entries = options.submission_entries / shrink;
      const uint32_t completions = options.completion_entries / shrink;
      params.cq_entries = completions < 2 ? 2 : completions;
      const long fd = system_call(SYS_io_uring_setup, entries == 0 ? 1 : static_cast<long>(entries),
                                  address_of(&params));
      if (fd >= 0) return fd;
      if (fd == -ENOMEM) break;
      // EPERM, ENOSYS: refused by a sandbox, by kernel.io_uring_disabled or by the kernel's build.
      // EMFILE, ENFILE: no descriptor is left.
      if (fd != -EINVAL) return fd;
    }
  }
  return -EINVAL;
}

long UringRing::map(const io_uring_params& params) {
  const size_t submission_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
  const size_t completion_bytes = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
  rings_bytes_ = submission_bytes > completion_bytes ? submission_bytes : completion_bytes;
  submissions_bytes_ = params.sq_entries * sizeof(io_uring_sqe);
  const auto map_part = [this](size_t bytes, unsigned long long offset) {
    const long address =
        system_call(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_POPULATE, enter_fd_, static_cast<long>(offset));
    if (address < 0 && address > -4096) return address;
    // A forked child must not reach its parent's rings; it opens its own.
    system_call(SYS_madvise, address, static_cast<long>(bytes), MADV_DONTFORK);
    return address;
  };
  const long rings = map_part(rings_bytes_, IORING_OFF_SQ_RING);
  if (rings < 0 && rings > -4096) return rings;
  rings_ = reinterpret_cast<void*>(rings);
  const long submissions = map_part(submissions_bytes_, IORING_OFF_SQES);
  if (submissions < 0 && submissions > -4096) return submissions;
  submissions_ = reinterpret_cast<io_uring_sqe*>(submissions);

  const auto word = [rings](uint32_t offset) {
    return reinterpret_cast<uint32_t*>(static_cast<uintptr_t>(rings) + offset);
  };
  submission_head_ = word(params.sq_off.head);
  submission_tail_ = word(params.sq_off.tail);
  submission_flags_ = word(params.sq_off.flags);
  submission_mask_ = *word(params.sq_off.ring_mask);
  entries_ = *word(params.sq_off.ring_entries);
  completion_head_ = word(params.cq_off.head);
  completion_tail_ = word(params.cq_off.tail);
  completion_mask_ = *word(params.cq_off.ring_mask);
  completions_ = reinterpret_cast<io_uring_cqe*>(word(params.cq_off.cqes));
  // The kernel reads entries through an array of indexes. We use them in order, so it never
  // changes.
  uint32_t* array = word(params.sq_off.array);
  for (uint32_t i = 0; i < entries_; i++) array[i] = i;
  return 0;
}

void UringRing::probe() {
  // A page: the kernel wants the answer's memory zeroed, and writes at most 256 entries of 8 bytes.
  auto* answer = static_cast<io_uring_probe*>(map_memory(kPageBytes));
  if (answer == nullptr) return;
  if (register_ring(enter_fd_, IORING_REGISTER_PROBE, answer, 256) == 0) {
    for (uint32_t i = 0; i < answer->ops_len && i < 64; i++) {
      if ((answer->ops[i].flags & IO_URING_OP_SUPPORTED) != 0) known_opcodes_ |= uint64_t{1} << i;
    }
  }
  unmap_memory(answer, kPageBytes);
}

void UringRing::limit_helpers() {
  // Linux 5.15; before that there is no limit to set and the kernel's own holds.
  uint32_t counts[2] = {kFileHelpers, kOtherHelpers};
  register_ring(enter_fd_, IORING_REGISTER_IOWQ_MAX_WORKERS, counts, 2);
}

void UringRing::hide(bool allowed) {
  if (allowed) {
    // Linux 5.18. The registration belongs to this kernel thread, as the ring does.
    io_uring_rsrc_update update = {~uint32_t{0}, 0, static_cast<uint64_t>(enter_fd_)};
    if (register_ring(enter_fd_, IORING_REGISTER_RING_FDS, &update, 1) == 1) {
      system_call(SYS_close, enter_fd_);
      enter_fd_ = static_cast<int32_t>(update.offset);
      enter_flags_ |= IORING_ENTER_REGISTERED_RING;
      visible_fd_ = -1;
      return;
    }
  }
  enter_fd_ = visible_fd_ = static_cast<int32_t>(move_descriptor_high(enter_fd_));
}

void UringRing::close() {
  if (visible_fd_ >= 0) {
    system_call(SYS_close, visible_fd_);
  } else if ((enter_flags_ & IORING_ENTER_REGISTERED_RING) != 0) {
    // By index from 6.3 on; before that the registration ends with the kernel thread.
    io_uring_rsrc_update update = {static_cast<uint32_t>(enter_fd_), 0, 0};
    register_ring(enter_fd_, IORING_UNREGISTER_RING_FDS | IORING_REGISTER_USE_REGISTERED_RING,
                  &update, 1);
  }
  if (rings_ != nullptr) unmap_memory(rings_, rings_bytes_);
  if (submissions_ != nullptr) unmap_memory(submissions_, submissions_bytes_);
  *this = UringRing();
}

long UringRing::enter(uint32_t wait_count, uint32_t flags, int64_t timeout_ns) {
  // Release: the entries are written before the kernel sees the tail.
  __atomic_store_n(submission_tail_, tail_, __ATOMIC_RELEASE);
  __kernel_timespec timeout = {timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  io_uring_getevents_arg extra = {0, 0, 0, reinterpret_cast<uintptr_t>(&timeout)};
  const bool bounded = timeout_ns >= 0;
  if (bounded) flags |= IORING_ENTER_EXT_ARG;
  return system_call(SYS_io_uring_enter, enter_fd_, static_cast<long>(pending()),
                     static_cast<long>(wait_count), static_cast<long>(flags | enter_flags_),
                     bounded ? address_of(&extra) : 0,
                     bounded ? static_cast<long>(sizeof extra) : 0);
}

}  // namespace weft::platform
