// fiber_stack.cc - stack slabs by size class (fiber_stack.h).
// A slab is 1 GiB of address space, aligned to 1 GiB, so that an address finds its slab by a shift.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/fiber_stack.h"

#include <atomic>

#include "platform/os.h"
#include "scheduler/lock.h"

namespace weft {
namespace {

using platform::kPageBytes;

constexpr unsigned kSlabShift = 30;
constexpr size_t kSlabBytes = size_t{1} << kSlabShift;
constexpr size_t kAddressSlots = size_t{1} << (47 - kSlabShift);  // user space has 47 bits
// Thread stacks come in few sizes; a program with more gets the kernel's mappings for the others.
constexpr uint32_t kMaxClasses = 32;
// 1,000,000 stacks of 8 MiB are 7,813 slabs.
constexpr uint32_t kMaxSlabs = 16384;
// Bytes at the hot end of a recycled stack that stay resident: what start_thread touches again.
constexpr size_t kWarmBytes = 16 * 1024;
// Recycled stacks of a slab that are kept warm; the rest give all their pages back.
constexpr uint32_t kWarmStacksMax = 64;

struct Slab {
  uintptr_t base = 0;
  size_t stack_bytes = 0;
  uint32_t stacks = 0;
  uint32_t used = 0;            // stacks ever handed out; the ones above are untouched
  uint32_t free_head = 0;       // index + 1 of a recycled stack
  uint32_t free_count = 0;
  uint32_t next_with_free = 0;  // slab index + 1; the list of its class
  uint32_t* next_free = nullptr;  // per stack
  uint8_t* state = nullptr;       // per stack: what is known of its accessibility, see below
  // The guard that its stacks have, as a rule: set by the first. Atomic accesses.
  size_t low_guard_bytes = 0;
};

// Slab::state. A stack comes from mmap() without access, and the first mprotect() opens all but its
// guard. So nothing is guarded before that, and then what lies below the opened part. A stack that
// is given back keeps the guard of its slab: the next one will most likely want the same.
constexpr uint8_t kOpened = 1;       // since it was handed out
constexpr uint8_t kLowGuard = 2;     // the first low_guard_bytes fault
constexpr uint8_t kOtherGuards = 4;  // any other part may fault


struct SizeClass {
  size_t stack_bytes = 0;
  uint32_t newest = 0;     // slab index + 1: where untouched stacks come from
  uint32_t with_free = 0;  // slab index + 1
};

struct Slabs {
  SpinLock lock;
  SizeClass classes[kMaxClasses] WEFT_GUARDED_BY(lock) = {};
  uint32_t class_count WEFT_GUARDED_BY(lock) = 0;
  uint32_t slab_count WEFT_GUARDED_BY(lock) = 0;
  // Slab index + 1 by address >> kSlabShift. Slabs never go away, so readers need no lock: the
  // slab's fields are written before its slot (release, acquire).
  std::atomic<uint32_t> by_address[kAddressSlots] = {};
  Slab slabs[kMaxSlabs] = {};
};

constinit Slabs g_slabs;  // bss: untouched pages cost nothing

SizeClass* class_of(size_t bytes) WEFT_REQUIRES(g_slabs.lock) {
  for (uint32_t i = 0; i < g_slabs.class_count; i++) {
    if (g_slabs.classes[i].stack_bytes == bytes) return &g_slabs.classes[i];
  }
  if (g_slabs.class_count == kMaxClasses) return nullptr;
  SizeClass& fresh = g_slabs.classes[g_slabs.class_count++];
  fresh.stack_bytes = bytes;
  return &fresh;
}

// 1 GiB of memory aligned to its size, or 0 (ulimit -v): then the kernel serves the stacks.
uintptr_t map_aligned() {
  auto raw = reinterpret_cast<uintptr_t>(platform::map_memory(2 * kSlabBytes));
  if (raw == 0) return 0;
  const uintptr_t base = (raw + kSlabBytes - 1) & ~(kSlabBytes - 1);
  if (base != raw) platform::unmap_memory(reinterpret_cast<void*>(raw), base - raw);
  const uintptr_t end = raw + 2 * kSlabBytes;
  platform::unmap_memory(reinterpret_cast<void*>(base + kSlabBytes), end - base - kSlabBytes);
  return base;
}

bool add_slab(SizeClass& size_class) WEFT_REQUIRES(g_slabs.lock) {
  if (g_slabs.slab_count == kMaxSlabs) return false;
  const size_t stacks = kSlabBytes / size_class.stack_bytes;
  const size_t book_bytes =
      (stacks * (sizeof(uint32_t) + 1) + kPageBytes - 1) / kPageBytes * kPageBytes;
  auto* book = static_cast<char*>(platform::map_memory(book_bytes));
  if (book == nullptr) return false;
  const uintptr_t base = map_aligned();
  if (base == 0) {
    platform::unmap_memory(book, book_bytes);
    return false;
  }
  Slab& slab = g_slabs.slabs[g_slabs.slab_count++];
  slab.base = base;
  slab.stack_bytes = size_class.stack_bytes;
  slab.stacks = static_cast<uint32_t>(stacks);
  slab.next_free = reinterpret_cast<uint32_t*>(book);
  slab.state = reinterpret_cast<uint8_t*>(book + stacks * sizeof(uint32_t));
  size_class.newest = g_slabs.slab_count;
  // Release: the slab before its slot.
  g_slabs.by_address[base >> kSlabShift].store(g_slabs.slab_count, std::memory_order_release);
  return true;
}

// The slab that holds the address, or null.
Slab* slab_of(uintptr_t address) {
  const uintptr_t slot = address >> kSlabShift;
  if (slot >= kAddressSlots) return nullptr;
  // Acquire: pairs with add_slab().
  const uint32_t index = g_slabs.by_address[slot].load(std::memory_order_acquire);
  return index == 0 ? nullptr : &g_slabs.slabs[index - 1];
}

struct Place {
  Slab* slab;
  uint32_t stack;
  uintptr_t offset;  // into the stack
};

Place place_of(uintptr_t address) {
  Slab* slab = slab_of(address);
  const uintptr_t offset = address - slab->base;
  return {slab, static_cast<uint32_t>(offset / slab->stack_bytes), offset % slab->stack_bytes};
}

}  // namespace

void* stack_map(size_t bytes) {
  if (bytes % kPageBytes != 0 || bytes < 2 * kPageBytes || bytes > kSlabBytes / 4) return nullptr;
  LockGuard guard(g_slabs.lock);
  SizeClass* size_class = class_of(bytes);
  if (size_class == nullptr) return nullptr;
  uint32_t stack;
  Slab* slab;
  if (size_class->with_free != 0) {
    slab = &g_slabs.slabs[size_class->with_free - 1];
    stack = slab->free_head - 1;
    slab->free_head = slab->next_free[stack];
    // Atomic for the racy look in stack_unmap().
    __atomic_store_n(&slab->free_count, slab->free_count - 1, __ATOMIC_RELAXED);
    if (slab->free_head == 0) size_class->with_free = slab->next_with_free;
  } else {
    const uint32_t newest = size_class->newest;
    if (newest == 0 || g_slabs.slabs[newest - 1].used == g_slabs.slabs[newest - 1].stacks) {
      if (!add_slab(*size_class)) return nullptr;
    }
    slab = &g_slabs.slabs[size_class->newest - 1];
    stack = slab->used++;
  }
  return reinterpret_cast<void*>(slab->base + stack * bytes);
}

bool stack_contains(uintptr_t address, size_t bytes) {
  Slab* slab = slab_of(address);
  if (slab == nullptr) return false;
  const uintptr_t offset = address - slab->base;
  return offset / slab->stack_bytes < slab->stacks &&
         bytes <= slab->stack_bytes - offset % slab->stack_bytes;
}

namespace {

// The first mprotect() of a stack that was handed out: all below the opened part is its guard.
long open_fresh(const Place& place) {
  Slab& slab = *place.slab;
  uint8_t& state = slab.state[place.stack];
  auto* base = reinterpret_cast<void*>(slab.base + place.stack * slab.stack_bytes);
  size_t usual = __atomic_load_n(&slab.low_guard_bytes, __ATOMIC_RELAXED);
  if (usual == 0 && place.offset != 0) {
    // Relaxed: the number is all there is to it. Whoever comes second takes what is there.
    const bool first = __atomic_compare_exchange_n(&slab.low_guard_bytes, &usual, place.offset,
                                                   false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    if (first) usual = place.offset;
  }
  const bool has_guard = (state & kLowGuard) != 0;
  const bool wants_usual = place.offset != 0 && place.offset == usual;
  state = kOpened;
  if (has_guard && wants_usual) {
    state |= kLowGuard;
    return 0;
  }
  if (has_guard) platform::remove_guard(base, usual);
  if (place.offset == 0) return 0;
  state |= wants_usual ? kLowGuard : kOtherGuards;
  return platform::install_guard(base, place.offset);
}

}  // namespace

long stack_protect(uintptr_t address, size_t bytes, bool accessible) {
  const Place place = place_of(address);
  auto* range = reinterpret_cast<void*>(address);
  uint8_t& state = place.slab->state[place.stack];
  if (!accessible) {
    state |= kOpened | kOtherGuards;
    return platform::install_guard(range, bytes);
  }
  if ((state & kOpened) == 0) return open_fresh(place);
  // Only a stack that has a guard there may have to give it up.
  const size_t usual = __atomic_load_n(&place.slab->low_guard_bytes, __ATOMIC_RELAXED);
  const bool in_guard = (state & kLowGuard) != 0 && place.offset < usual;
  if (in_guard) state = kOpened | kOtherGuards;
  return (state & kOtherGuards) != 0 ? platform::remove_guard(range, bytes) : 0;
}

long stack_unmap(uintptr_t address, size_t bytes) {
  const Place place = place_of(address);
  Slab& slab = *place.slab;
  if (place.offset != 0 || bytes != slab.stack_bytes) {
    // A hole in a stack that somebody mapped by the same shape: it faults from now on.
    slab.state[place.stack] |= kOpened | kOtherGuards;
    platform::release_pages(reinterpret_cast<void*>(address), bytes);
    return platform::install_guard(reinterpret_cast<void*>(address), bytes);
  }
  uint8_t& state = slab.state[place.stack];
  if ((state & kOtherGuards) != 0) {
    platform::remove_guard(reinterpret_cast<void*>(address), bytes);
    state = 0;
  }
  state &= kLowGuard;
  // Relaxed meaning: a racy read only decides how much stays resident.
  const bool warm = __atomic_load_n(&slab.free_count, __ATOMIC_RELAXED) < kWarmStacksMax &&
                    bytes > kWarmBytes;
  platform::release_pages(reinterpret_cast<void*>(address), warm ? bytes - kWarmBytes : bytes);
  if (warm) {
    // A fresh mapping reads as zero, and glibc's thread descriptor, at the hot end, relies on it.
    // Clearing 16 KiB costs less than four page faults.
    auto* hot = reinterpret_cast<uint64_t*>(address + bytes - kWarmBytes);
    for (size_t i = 0; i < kWarmBytes / sizeof(uint64_t); i++) hot[i] = 0;
  }
  LockGuard guard(g_slabs.lock);
  SizeClass* size_class = class_of(bytes);
  const auto slab_number = static_cast<uint32_t>(&slab - g_slabs.slabs) + 1;
  if (slab.free_head == 0) {
    slab.next_with_free = size_class->with_free;
    size_class->with_free = slab_number;
  }
  slab.next_free[place.stack] = slab.free_head;
  slab.free_head = place.stack + 1;
  __atomic_store_n(&slab.free_count, slab.free_count + 1, __ATOMIC_RELAXED);
  return 0;
}

long stack_discard(uintptr_t address, size_t bytes) {
  // libc wants the pages of a dead thread's cached stack back, all but a few. It keeps at most
  // 40 MiB of such stacks, and what they hold is what the next thread will touch: leave up to
  // kWarmBytes at the hot end; below that the advice is followed.
  if (bytes <= kWarmBytes) return 0;
  platform::release_pages(reinterpret_cast<void*>(address), bytes - kWarmBytes);
  return 0;
}

void stack_slabs_before_fork() WEFT_NO_ANALYSIS { g_slabs.lock.lock(); }
void stack_slabs_after_fork() WEFT_NO_ANALYSIS { g_slabs.lock.unlock(); }

}  // namespace weft
