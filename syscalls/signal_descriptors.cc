// signal_descriptors.cc - signals that stay pending in the kernel because a signalfd watches them.
// A process's signal that every thread blocks waits where a signalfd reads it: in the kernel. So
// the workers block it too, as long as no fiber unblocks it or waits for it.
//   decider                                    a thread that unblocks the signal
//   1 lock; read the masks of all threads      1 its mask = without the signal
//   2 kept = what all block; unlock            2 decides as well, applies its worker's mask
// The later decision sees both. What is gained is blocked on every worker at once: each gets a
// signal of its own, which the kernel hands out before the process's, and whose handler adds to the mask
// (weft_signal_entry). Of what is lost the workers hear by message: one without the block is enough
// for the kernel to deliver, and the decider is that one.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/syscall.h>

#include "scheduler/scheduler.h"
#include "scheduler/text.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signal_state.h"

namespace weft {
namespace {

// Never left to the kernel: faults, the runtime's own requests, and libc's signals for cancellation
// and setuid(2), which are for threads that the kernel does not know.
constexpr uint64_t kNeverKept =
    kUncatchable | uint64_t{1} << (kSigIll - 1) | uint64_t{1} << (kSigTrap - 1) |
    uint64_t{1} << (kSigBus - 1) | uint64_t{1} << (kSigFpe - 1) | uint64_t{1} << (kSigSegv - 1) |
    uint64_t{1} << (kSigUrg - 1) | uint64_t{1} << (kSigSys - 1) | uint64_t{1} << (32 - 1) |
    uint64_t{1} << (33 - 1);

// The mask of a signalfd, from the line "sigmask:" of its fdinfo (proc(5)). 0: it is something else.
uint64_t watched_by(const char* fd) {
  Text<64> path;
  path.append("/proc/self/fdinfo/").append(fd);
  const long file = system_call(SYS_openat, AT_FDCWD, address_of(path.c_str()), O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[512] = {};
  system_call(SYS_read, file, address_of(text), sizeof text - 1);
  system_call(SYS_close, file);
  static constexpr char kKey[] = "sigmask:\t";
  uint64_t mask = 0;
  for (const char* line = text; *line != 0; line++) {
    size_t i = 0;
    while (i + 1 < sizeof kKey && line[i] == kKey[i]) i++;
    if (i + 1 != sizeof kKey) continue;
    for (const char* digit = line + i; *digit > ' '; digit++) {
      mask = mask << 4 | static_cast<uint64_t>(*digit <= '9' ? *digit - '0' : *digit - 'a' + 10);
    }
    break;
  }
  return mask;
}

bool is_signalfd(long folder, const char* fd) {
  static constexpr char kTarget[] = "anon_inode:[signalfd]";
  char target[sizeof kTarget] = {};
  system_call(SYS_readlinkat, folder, address_of(fd), address_of(target), sizeof target - 1);
  return text_equal(target, kTarget);
}

}  // namespace

void find_signal_descriptors() {
  struct Entry {  // struct linux_dirent64
    uint64_t inode;
    int64_t next;
    uint16_t bytes;
    uint8_t type;
    char name[1];
  };
  const long folder = system_call(SYS_openat, AT_FDCWD, address_of("/proc/self/fd"),
                                  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  uint64_t bits = 0;
  alignas(Entry) char entries[4096];
  for (;;) {
    const long bytes = system_call(SYS_getdents64, folder, address_of(entries), sizeof entries);
    if (bytes <= 0) break;
    for (long at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const Entry*>(entries + at);
      const char* name = entries + at + offsetof(Entry, name);
      if (is_signalfd(folder, name)) bits |= watched_by(name);
      at += entry->bytes;
    }
  }
  system_call(SYS_close, folder);
  g_signals.watched.fetch_or(bits & ~kNeverKept, std::memory_order_seq_cst);
}

uint64_t worker_signal_mask() {
  // Sequentially consistent: read again by apply_worker_mask() after the kernel was told.
  return kWorkerSignalMask | g_signals.kept_in_kernel.load(std::memory_order_seq_cst);
}

void apply_worker_mask() {
  SignalNotes& notes = notes_of(*current_worker());
  for (;;) {
    const uint64_t mask = worker_signal_mask();
    if (notes.applied_mask == mask) return;
    // Noted first: a master handler that adds to the mask in between says that it is unknown.
    notes.applied_mask = mask;
    set_kernel_mask(mask);
  }
}

void decide_what_kernel_keeps() {
  uint64_t kept = g_signals.watched.load(std::memory_order_seq_cst);
  if (kept == 0) return;
  uint64_t before;
  {
    LockGuard guard(g_signals.descriptors_lock);
    visit_threads(
        [](Thread& thread, void* argument) {
          auto& left = *static_cast<uint64_t*>(argument);
          left &= thread.signal_mask.load(std::memory_order_seq_cst) &
                  ~thread.wait_set.load(std::memory_order_seq_cst);
          return left == 0;
        },
        &kept);
    before = g_signals.kept_in_kernel.exchange(kept, std::memory_order_seq_cst);
  }
  if (kept == before) return;
  const uint64_t gained = kept & ~before;
  for (uint32_t i = 0; i < g_runtime.scheduler.worker_count(); i++) {
    Worker& worker = g_runtime.scheduler.worker(i);
    post_notes(worker);
    if (gained != 0 && &worker != current_worker()) ask_to_look(worker);
  }
  if (gained == 0) return;
  visit_threads(
      [](Thread& thread, void*) {
        if (thread.bound && thread.home != current_worker()) ask_to_look(*thread.home);
        return false;
      },
      nullptr);
  // Last: nobody takes them from the kernel any more.
  hand_to_kernel(g_signals.pending, gained);
  visit_threads(
      [](Thread& thread, void* bits) {
        hand_to_kernel(thread.pending, *static_cast<const uint64_t*>(bits));
        return false;
      },
      const_cast<uint64_t*>(&gained));
}

void watch_signals(uint64_t bits) {
  g_signals.watched.fetch_or(bits & ~kNeverKept, std::memory_order_seq_cst);
  decide_what_kernel_keeps();
  apply_worker_mask();
}

void hand_to_kernel(SignalQueue& queue, uint64_t bits) {
  bits &= g_signals.kept_in_kernel.load(std::memory_order_seq_cst);
  SignalInfo info;
  while (queue.take(bits, info)) {
    // By the id of this kernel thread, for which every si_code may be sent; the signal is the
    // process's all the same (kernel/signal.c, do_rt_sigqueueinfo and kill_pid_info).
    system_call(SYS_rt_sigqueueinfo, current_worker()->kernel_tid, info.number, address_of(&info));
  }
}

void lend_signals_to_kernel(Thread& thread, bool with_pending) {
  const uint64_t mask = thread.signal_mask.load(std::memory_order_relaxed);
  set_kernel_mask(mask);
  notes_of(*current_worker()).applied_mask = mask;
  // Looked at by the gate on the way out of the fiber's next call.
  thread.attention.fetch_or(kAttentionKernelMask, std::memory_order_relaxed);
  if (!with_pending) return;
  // execve(2): what is pending stays so. For this kernel thread, because the others do not block it;
  // if the call fails, it comes back when the mask does.
  SignalInfo info;
  while (g_signals.pending.take(mask, info) || thread.pending.take(mask, info)) {
    system_call(SYS_rt_tgsigqueueinfo, g_runtime.process_id, current_worker()->kernel_tid,
                info.number, address_of(&info));
  }
}

}  // namespace weft
