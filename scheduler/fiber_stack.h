// fiber_stack.h - slabs for the stacks that libc maps for its threads.
// glibc maps every thread's stack by mmap(PROT_NONE, MAP_STACK) and opens all but the guard by
// mprotect: two mappings a thread, and vm.max_map_count ends the fun at 32,000. We serve those calls
// from slabs: one mapping holds many stacks of one size, guards are page-table markers
// (MADV_GUARD_INSTALL) where the kernel has them, pages go back when a stack is unmapped.
// Guarantee: every answer is what the kernel would say; a request that does not fit this shape is
// left to the kernel. Nothing here parks (malloc's and the stack cache's locks may be held).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft {

// A stack of exactly `bytes`, its pages untouched and accessible, or null: not served.
void* stack_map(size_t bytes);

// Whether the range lies in one stack of a slab. The three calls below are for such ranges only.
bool stack_contains(uintptr_t address, size_t bytes);

// mprotect: no access makes a guard of the range, any other opens it. Returns 0 or -errno.
long stack_protect(uintptr_t address, size_t bytes, bool accessible);
// munmap. Of a whole stack: back to the slab. Of a part: its pages go, and it faults from then on.
long stack_unmap(uintptr_t address, size_t bytes);
// madvise(MADV_DONTNEED) by libc at a thread's end; the hot end stays warm for the next thread.
long stack_discard(uintptr_t address, size_t bytes);

// For fork(): nobody holds or will hold the slabs' lock until stack_slabs_after_fork().
void stack_slabs_before_fork();
void stack_slabs_after_fork();

}  // namespace weft
