// socket_time.h - SO_RCVTIMEO and SO_SNDTIMEO: the netpoller's operations do not know them, so each
// wait on such a socket gets a deadline of ours.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syscalls/fd_table.h"

namespace weft {

// When a receive, or a send, that starts now must give up; kForever if the socket has no time-out.
int64_t receive_deadline(int fd, const FdHint& hint);
int64_t send_deadline(int fd, const FdHint& hint);

}  // namespace weft
