// fd_table.h - what the runtime remembers of descriptors: hints that save a trip, never the truth.
// Descriptions are shared between processes and descriptors, so each hint is used only where a
// wrong one costs time, not correctness: a try without waiting that fails is done the sure way.
// One hint does matter: a descriptor believed blocking is waited for. (A ring of Linux 6.18 parks on
// O_NONBLOCK descriptors, measured; an older one answers EAGAIN.) Every way to set O_NONBLOCK in
// this process is seen; another process that sets it on a shared description is not.
// Learned at first use, forgotten by close, dup2, dup3 and close_range.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft {

enum class FdKind : uint8_t {
  unknown = 0,
  bad,        // not open
  socket,
  stream,     // pipes, eventfd and what else the netpoller waits for
  regular,    // a file in the page cache: a copy, done at once
  direct,     // a file opened with O_DIRECT: every access waits for the disk
  memory,     // /dev/zero, /dev/urandom and the like: never waits
  device,     // a terminal or another character device: only the blocking pool is right
};

struct FdHint {
  FdKind kind = FdKind::unknown;
  bool nonblocking = false;
  bool receive_timeout = false;  // SO_RCVTIMEO is set
  bool send_timeout = false;     // SO_SNDTIMEO
};

// Whether the netpoller is the way to wait for it.
inline bool is_pollable(FdKind kind) { return kind == FdKind::socket || kind == FdKind::stream; }

// The hint; learned by asking the kernel if there is none yet.
FdHint fd_hint(int fd);
void set_fd_hint(int fd, FdHint hint);
void forget_fd(int fd);
void forget_fds(uint32_t first, uint32_t last);

// A description got a second descriptor: from now on a change of flags through one is forgotten of
// all.
void note_duplicate();
// O_NONBLOCK may have changed through this descriptor.
void forget_flags(int fd);

}  // namespace weft
