// os.h - the contract with the operating system below the scheduler: memory, kernel threads, time.
// Nothing here may call a libc function: the caller may be inside one (malloc, the loader).
// Errors are negative errno values; a null pointer is "no memory".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::platform {

inline constexpr size_t kPageBytes = 4096;

// CLOCK_MONOTONIC, nanoseconds, by the vDSO.
int64_t monotonic_ns();
// Any clock by its kernel number, nanoseconds; falls back to the system call.
int64_t clock_ns(int clock);
// Finds the vDSO from the auxiliary vector's AT_SYSINFO_EHDR (0: use the system call).
void set_vdso(uintptr_t elf_header);

// Zeroed private memory, page aligned, not backed until touched, never by huge pages.
void* map_memory(size_t bytes);
void unmap_memory(void* address, size_t bytes);
// Gives the pages back, keeps the mapping; they read as zero afterwards.
void release_pages(void* address, size_t bytes);
// Makes an access to the range fault. One mapping is kept whole where the system can do that
// (MADV_GUARD_INSTALL, Linux 6.13), else mprotect splits it. Returns 0 or -errno.
long install_guard(void* address, size_t bytes);
long remove_guard(void* address, size_t bytes);

// A kernel thread that the program's libc does not know of: not on its lists, not in its counts.
// It starts at entry(argument) on the given stack with every signal blocked, and shares all else.
// stack_top: 16-byte aligned. exit_word, if not null, is zeroed and futex-woken when it ends.
// thread_pointer: its FS base, a block from make_thread_block(). Returns its tid or -errno.
long start_kernel_thread(void (*entry)(void*), void* argument, void* stack_top,
                         uintptr_t thread_pointer, int* exit_word);
[[noreturn]] void exit_kernel_thread();
// A minimal thread control block in `memory` (kThreadBlockBytes, 64-byte aligned): the self pointer
// and the stack guard that compiled code and debuggers expect at FS.
inline constexpr size_t kThreadBlockBytes = 4096;
uintptr_t make_thread_block(void* memory, uintptr_t model);
long kernel_thread_id();

// Sleeping on a word, for the runtime's own kernel threads only (fibers use the futex table).
// deadline_ns: CLOCK_MONOTONIC or INT64_MAX. Returns 0, -EAGAIN, -EINTR or -ETIMEDOUT.
long wait_on_word(const void* word, uint32_t expected, int64_t deadline_ns);
long wake_word(const void* word, int count);

// Writes to standard error, whole or not at all as far as the system allows.
void write_error(const char* text, size_t length);
[[noreturn]] void die();

// CPUs this process may run on, at least 1.
unsigned usable_cpus();

inline void cpu_relax() { asm volatile("pause" ::: "memory"); }

}  // namespace weft::platform
