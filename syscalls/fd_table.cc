// fd_table.cc - one byte of hints per descriptor number (fd_table.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/fd_table.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <atomic>
#include <cerrno>

#include "syscalls/kernel.h"

namespace weft {
namespace {

// Numbers above that are not remembered. The kernel's default hard limit (fs.nr_open) is 2^20.
constexpr int kRemembered = 1 << 20;
constexpr uint8_t kKindMask = 0x0f;
constexpr uint8_t kNonblocking = 0x10;
constexpr uint8_t kReceiveTimeout = 0x20;
constexpr uint8_t kSendTimeout = 0x40;

// bss: a page per 4096 descriptors in use. Relaxed accesses: a hint carries no other data.
constinit std::atomic<uint8_t> g_hints[kRemembered] = {};

// Relaxed: set before the duplicate's number is known to the program.
constinit std::atomic<bool> g_duplicates{false};
// One above the highest number that ever had a hint: bounds forgetting all.
constinit std::atomic<int> g_highest{0};

constexpr int kSolSocket = 1;
constexpr int kSoReceiveTimeout = 20;  // SO_RCVTIMEO_OLD; one 64-bit layout on x86-64
constexpr int kSoSendTimeout = 21;

bool has_timeout(int fd, int option) {
  struct {
    int64_t seconds;
    int64_t microseconds;
  } value = {};
  int length = sizeof value;
  const long result = system_call(SYS_getsockopt, fd, kSolSocket, option, address_of(&value),
                                  address_of(&length));
  return result == 0 && (value.seconds != 0 || value.microseconds != 0);
}

FdHint learn(int fd) {
  FdHint hint;
  const long flags = system_call(SYS_fcntl, fd, F_GETFL);
  if (flags < 0) {
    hint.kind = FdKind::bad;
    return hint;
  }
  struct statx status = {};
  const long result = system_call(SYS_statx, fd, address_of(""), AT_EMPTY_PATH, STATX_TYPE,
                                  address_of(&status));
  hint.nonblocking = (flags & O_NONBLOCK) != 0;
  hint.kind = FdKind::stream;
  if (result != 0) return hint;
  switch (status.stx_mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFBLK:
      hint.kind = (flags & O_DIRECT) != 0 ? FdKind::direct : FdKind::regular;
      break;
    case S_IFCHR:
      // Major 1: null, zero, full, random, urandom (Documentation/admin-guide/devices.txt).
      hint.kind = status.stx_rdev_major == 1 ? FdKind::memory : FdKind::device;
      break;
    case S_IFSOCK:
      hint.kind = FdKind::socket;
      hint.receive_timeout = has_timeout(fd, kSoReceiveTimeout);
      hint.send_timeout = has_timeout(fd, kSoSendTimeout);
      break;
    default:
      break;
  }
  return hint;
}

}  // namespace

FdHint fd_hint(int fd) {
  if (fd < 0) return {FdKind::bad, false, false, false};
  if (fd < kRemembered) {
    const uint8_t byte = g_hints[fd].load(std::memory_order_relaxed);
    if (byte != 0) {
      return {static_cast<FdKind>(byte & kKindMask), (byte & kNonblocking) != 0,
              (byte & kReceiveTimeout) != 0, (byte & kSendTimeout) != 0};
    }
  }
  const FdHint hint = learn(fd);
  if (hint.kind != FdKind::bad) set_fd_hint(fd, hint);
  return hint;
}

void set_fd_hint(int fd, FdHint hint) {
  if (fd < 0 || fd >= kRemembered) return;
  const auto byte = static_cast<uint8_t>(
      static_cast<unsigned>(hint.kind) | (hint.nonblocking ? kNonblocking : 0u) |
      (hint.receive_timeout ? kReceiveTimeout : 0u) | (hint.send_timeout ? kSendTimeout : 0u));
  g_hints[fd].store(byte, std::memory_order_relaxed);
  // A lost race lowers the bound by a moment's newcomer; it is set again at the next use.
  if (fd >= g_highest.load(std::memory_order_relaxed)) {
    g_highest.store(fd + 1, std::memory_order_relaxed);
  }
}

void forget_fd(int fd) {
  if (fd >= 0 && fd < kRemembered) g_hints[fd].store(0, std::memory_order_relaxed);
}

void note_duplicate() { g_duplicates.store(true, std::memory_order_relaxed); }

void forget_flags(int fd) {
  if (!g_duplicates.load(std::memory_order_relaxed)) {
    forget_fd(fd);
    return;
  }
  const int highest = g_highest.load(std::memory_order_relaxed);
  for (int i = 0; i < highest; i++) forget_fd(i);
}

void forget_fds(uint32_t first, uint32_t last) {
  for (uint32_t fd = first; fd <= last && fd < static_cast<uint32_t>(kRemembered); fd++) {
    // Only what was set: most of the range is untouched bss, and stays so.
    if (g_hints[fd].load(std::memory_order_relaxed) != 0) forget_fd(static_cast<int>(fd));
  }
}

}  // namespace weft
