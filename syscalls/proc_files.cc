// proc_files.cc - thread names behind descriptors of memfd_create(2) (proc_files.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/proc_files.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/prctl.h>
#include <sys/syscall.h>

#include "scheduler/lock.h"
#include "scheduler/text.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"

namespace weft {
namespace {

// Names open for writing. glibc closes one right after it wrote.
struct OpenName {
  int fd = -1;
  int tid = 0;
};
struct OpenNames {
  static constexpr uint32_t kMax = 64;
  SpinLock lock;
  OpenName entries[kMax] WEFT_GUARDED_BY(lock);
  // Above zero: some entry is used. Relaxed: who closes a descriptor knows that it was opened.
  std::atomic<uint32_t> count{0};
};
constinit OpenNames g_open_names;

bool skip(const char*& text, const char* prefix) {
  const char* at = text;
  for (; *prefix != 0; prefix++, at++) {
    if (*at != *prefix) return false;
  }
  text = at;
  return true;
}

// A decimal number up to 2^31. 0: there is none.
int take_number(const char*& text) {
  int64_t value = 0;
  const char* at = text;
  for (; *at >= '0' && *at <= '9' && value < INT32_MAX; at++) value = value * 10 + (*at - '0');
  if (value > INT32_MAX) return 0;
  text = at;
  return static_cast<int>(value);
}

// The fiber whose name the path is. Null: another file, or a thread that the kernel knows best.
Thread* named_by(const char* path) {
  if (!skip(path, "/proc/")) return nullptr;
  Thread* thread = nullptr;
  if (skip(path, "thread-self")) {
    thread = &current_thread();
  } else {
    if (!skip(path, "self") && take_number(path) != g_runtime.process_id) return nullptr;
    if (!skip(path, "/task/")) return nullptr;
    thread = find_thread(take_number(path));
  }
  return thread != nullptr && skip(path, "/comm") && *path == 0 ? thread : nullptr;
}

bool remember(int fd, int tid) {
  LockGuard guard(g_open_names.lock);
  for (OpenName& entry : g_open_names.entries) {
    if (entry.fd >= 0) continue;
    entry = {fd, tid};
    g_open_names.count.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

// The id of the thread that the descriptor names, forgotten from here on; 0: none.
int forget(int fd) {
  LockGuard guard(g_open_names.lock);
  for (OpenName& entry : g_open_names.entries) {
    if (entry.fd != fd) continue;
    entry.fd = -1;
    g_open_names.count.fetch_sub(1, std::memory_order_relaxed);
    return entry.tid;
  }
  return 0;
}

}  // namespace

void read_thread_name(const Thread& thread, char (&name)[16]) {
  if (thread.name_set) {
    for (size_t i = 0; i < sizeof name; i++) name[i] = thread.name[i];
    return;
  }
  // Never named: it has the name of the process, like the workers.
  system_call(SYS_prctl, PR_GET_NAME, address_of(name));
}

void name_thread(Thread& thread, const char (&name)[16]) {
  for (size_t i = 0; i < sizeof name; i++) thread.name[i] = name[i];
  thread.name_set = true;
  if (&thread != g_runtime.main_thread) return;
  // The process is listed under its first thread's name (ps, /proc/PID/comm), wherever that runs.
  Text<64> path;
  path.append("/proc/self/task/").append_number(g_runtime.process_id).append("/comm");
  const long fd = system_call(SYS_openat, AT_FDCWD, address_of(path.c_str()), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  size_t length = 0;
  while (length + 1 < sizeof name && name[length] != 0) length++;
  system_call(SYS_write, fd, address_of(name), static_cast<long>(length));
  system_call(SYS_close, fd);
}

Result open_thread_file(uint64_t path, uint64_t flags) {
  Thread* thread = named_by(pointer<const char>(path));
  if (thread == nullptr) return kNotOurFile;
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  const long fd = system_call(SYS_memfd_create, address_of("comm"),
                              (flags & O_CLOEXEC) != 0 ? MFD_CLOEXEC : 0);
  if (fd < 0) return fd;
  if (writes) {
    // Starts empty: what is there at the end is what was written.
    if (remember(static_cast<int>(fd), thread->tid.load(std::memory_order_relaxed))) return fd;
    system_call(SYS_close, fd);
    return -EMFILE;
  }
  char name[17] = {};
  read_thread_name(*thread, reinterpret_cast<char(&)[16]>(name));
  size_t length = 0;
  while (name[length] != 0) length++;
  name[length++] = '\n';  // proc(5), as the kernel prints it
  system_call(SYS_pwrite64, fd, address_of(name), static_cast<long>(length), 0);
  return fd;
}

void close_thread_file(int fd) {
  if (g_open_names.count.load(std::memory_order_relaxed) == 0) return;
  const int tid = forget(fd);
  Thread* thread = tid == 0 ? nullptr : find_thread(tid);
  if (thread == nullptr) return;
  char name[16] = {};
  const long bytes = system_call(SYS_pread64, fd, address_of(name), sizeof name - 1, 0);
  if (bytes <= 0) return;
  // The kernel keeps a newline that echo(1) added; nobody wants it.
  if (name[bytes - 1] == '\n') name[bytes - 1] = 0;
  name_thread(*thread, name);
}

}  // namespace weft
