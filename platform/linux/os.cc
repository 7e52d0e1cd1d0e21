// os.cc - platform/os.h on Linux: memory, kernel threads and time by raw system calls.
// SPDX-License-Identifier: Apache-2.0
#include "platform/os.h"

#include <elf.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <cerrno>

#include "platform/linux/system_call.h"

#ifndef MADV_GUARD_INSTALL  // Linux 6.13; Debian 12's headers are older.
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

extern "C" long weft_clone_thread(unsigned long flags, void* stack_top, int* exit_word,
                                  uintptr_t thread_pointer, void (*entry)(void*), void* argument);

namespace weft::platform {
namespace {

using ClockFunction = int (*)(clockid_t, struct timespec*);
ClockFunction g_vdso_clock = nullptr;  // const after set_vdso()

bool names_equal(const char* a, const char* b) {
  while (*a != 0 && *a == *b) {
    a++;
    b++;
  }
  return *a == *b;
}

// The vDSO is a small, well-formed ELF object of the kernel's (vdso(7)).
ClockFunction find_vdso_clock(uintptr_t base) {
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(base + header->e_phoff);
  uintptr_t bias = 0;
  const Elf64_Dyn* dynamic = nullptr;
  for (int i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type == PT_LOAD && bias == 0) bias = base - segments[i].p_vaddr;
    if (segments[i].p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const Elf64_Dyn*>(base + segments[i].p_offset);
    }
  }
  if (dynamic == nullptr) return nullptr;
  const Elf64_Sym* symbols = nullptr;
  const char* names = nullptr;
  const uint32_t* hash = nullptr;
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    const uintptr_t target = bias + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const Elf64_Sym*>(target);
    if (dynamic->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(target);
    if (dynamic->d_tag == DT_HASH) hash = reinterpret_cast<const uint32_t*>(target);
  }
  if (symbols == nullptr || names == nullptr || hash == nullptr) return nullptr;
  for (uint32_t i = 0; i < hash[1]; i++) {
    if (symbols[i].st_shndx != SHN_UNDEF &&
        names_equal(names + symbols[i].st_name, "__vdso_clock_gettime")) {
      return reinterpret_cast<ClockFunction>(bias + symbols[i].st_value);
    }
  }
  return nullptr;
}

// Whether guards can be installed without splitting the mapping: unknown, yes, no.
std::atomic<int> g_guard_install{0};

}  // namespace

void set_vdso(uintptr_t elf_header) {
  if (elf_header != 0) g_vdso_clock = find_vdso_clock(elf_header);
}

int64_t clock_ns(int clock) {
  struct timespec now = {};
  if (g_vdso_clock == nullptr || g_vdso_clock(clock, &now) != 0) {
    system_call(SYS_clock_gettime, clock, address_of(&now));
  }
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }

void* map_memory(size_t bytes) {
  const long address = system_call(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address < 0 && address > -4096) return nullptr;
  // A huge page under a slab of stacks would make each parked fiber cost 2 MiB.
  system_call(SYS_madvise, address, static_cast<long>(bytes), MADV_NOHUGEPAGE);
  return reinterpret_cast<void*>(address);
}

void unmap_memory(void* address, size_t bytes) {
  system_call(SYS_munmap, address_of(address), static_cast<long>(bytes));
}

void release_pages(void* address, size_t bytes) {
  system_call(SYS_madvise, address_of(address), static_cast<long>(bytes), MADV_DONTNEED);
}

long install_guard(void* address, size_t bytes) {
  // Relaxed: a hint about the kernel, the same for every thread that asks it.
  if (g_guard_install.load(std::memory_order_relaxed) >= 0) {
    const long result = system_call(SYS_madvise, address_of(address), static_cast<long>(bytes),
                                    MADV_GUARD_INSTALL);
    // EINVAL: this kernel has no guards. All else is an answer.
    if (result != -EINVAL) return result;
    g_guard_install.store(-1, std::memory_order_relaxed);
  }
  return system_call(SYS_mprotect, address_of(address), static_cast<long>(bytes), PROT_NONE);
}

long remove_guard(void* address, size_t bytes) {
  if (g_guard_install.load(std::memory_order_relaxed) >= 0) {
    const long result = system_call(SYS_madvise, address_of(address), static_cast<long>(bytes),
                                    MADV_GUARD_REMOVE);
    if (result == 0) return 0;
  }
  return system_call(SYS_mprotect, address_of(address), static_cast<long>(bytes),
                     PROT_READ | PROT_WRITE);
}

uintptr_t make_thread_block(void* memory, uintptr_t model) {
  // The head of glibc's tcbhead_t (x86-64 ABI: fs:0 is the block's own address; the stack guard is
  // at fs:0x28, the pointer guard at fs:0x30). The rest of the page serves negative TLS offsets of
  // nobody: the runtime has no thread-local variable.
  auto* block = reinterpret_cast<uint64_t*>(static_cast<char*>(memory) + kThreadBlockBytes / 2);
  const auto* source = reinterpret_cast<const uint64_t*>(model);
  block[0] = reinterpret_cast<uintptr_t>(block);
  block[2] = reinterpret_cast<uintptr_t>(block);
  if (source != nullptr) {
    block[5] = source[5];
    block[6] = source[6];
  }
  return reinterpret_cast<uintptr_t>(block);
}

long start_kernel_thread(void (*entry)(void*), void* argument, void* stack_top,
                         uintptr_t thread_pointer, int* exit_word) {
  unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                        CLONE_SYSVSEM | CLONE_SETTLS;
  if (exit_word != nullptr) flags |= CLONE_CHILD_CLEARTID;
  // The child inherits the mask, so block everything around the clone: a signal that comes before
  // the thread is ready for it goes to another.
  const uint64_t all = ~uint64_t{0};
  uint64_t old = 0;
  system_call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, address_of(&all), address_of(&old), 8);
  const long tid =
      weft_clone_thread(flags, stack_top, exit_word, thread_pointer, entry, argument);
  system_call(SYS_rt_sigprocmask, 2, address_of(&old), 0, 8);
  return tid;
}

void exit_kernel_thread() {
  for (;;) system_call(SYS_exit, 0);
}

long kernel_thread_id() { return system_call(SYS_gettid); }

long wait_on_word(const void* word, uint32_t expected, int64_t deadline_ns) {
  struct timespec until = {};
  const bool bounded = deadline_ns != INT64_MAX;
  if (bounded) {
    until.tv_sec = deadline_ns / 1'000'000'000;
    until.tv_nsec = deadline_ns % 1'000'000'000;
  }
  // FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time (futex(2)). Not private: the kernel's
  // own wake of a thread's exit word (CLONE_CHILD_CLEARTID) is not, and does not find private waits.
  return system_call(SYS_futex, address_of(word), FUTEX_WAIT_BITSET,
                     static_cast<long>(expected), bounded ? address_of(&until) : 0, 0,
                     static_cast<long>(FUTEX_BITSET_MATCH_ANY));
}

long wake_word(const void* word, int count) {
  return system_call(SYS_futex, address_of(word), FUTEX_WAKE, count);
}

void write_error(const char* text, size_t length) {
  system_call(SYS_write, 2, address_of(text), static_cast<long>(length));
}

void die() {
  // SIGABRT by its default action: the process ends with a core where the program allows one.
  const uint64_t abort_mask = uint64_t{1} << (6 - 1);
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    uint64_t mask;
  } action = {};
  system_call(SYS_rt_sigaction, 6, address_of(&action), 0, 8);
  system_call(SYS_rt_sigprocmask, 1 /* SIG_UNBLOCK */, address_of(&abort_mask), 0, 8);
  system_call(SYS_tgkill, system_call(SYS_getpid), system_call(SYS_gettid), 6);
  for (;;) system_call(SYS_exit_group, 134);
}

unsigned usable_cpus() {
  uint64_t mask[128] = {};
  const long bytes = system_call(SYS_sched_getaffinity, 0, sizeof mask, address_of(mask));
  unsigned count = 0;
  for (long i = 0; i < bytes / 8; i++) {
    for (uint64_t rest = mask[i]; rest != 0; rest &= rest - 1) count++;
  }
  return count == 0 ? 1 : count;
}

}  // namespace weft::platform
