// proc_files.h - the files of /proc that name a thread: the kernel does not know the fibers' ids.
// Served: the name, .../task/TID/comm and /proc/thread-self/comm, which pthread_setname_np and
// pthread_getname_np use for other threads. Everything else there is left to the kernel.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syscalls/call_frame.h"
#include "syscalls/thread.h"

namespace weft {

// Not an answer: the path is none of ours.
inline constexpr Result kNotOurFile = -601;

// Opens a thread's name. May touch the path, which is the program's memory.
Result open_thread_file(uint64_t path, uint64_t flags);
// The descriptor is about to be closed: what was written to it becomes the name.
void close_thread_file(int fd);

// Reads the thread's name: 16 bytes, zero padded.
void read_thread_name(const Thread& thread, char (&name)[16]);
// Names the thread; the first one's name is the process's in the kernel, too.
void name_thread(Thread& thread, const char (&name)[16]);

}  // namespace weft
