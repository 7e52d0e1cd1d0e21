// stub_arena.cc - the arenas, and the search for a gap in the address space near an object.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/stub_arena.h"

#include <errno.h>
#include <fcntl.h>

#include <atomic>

#include "preload/patcher/memory.h"

namespace weft::preload {
namespace {

using platform::address_of;
using platform::system_call;

// Untouched pages cost nothing; one arena serves all the libraries that lie together.
constexpr size_t kArenaBytes = size_t{512} << 10;
constexpr size_t kArenasMax = 64;
// What a signed 32-bit offset reaches, less the longest instruction and some air.
constexpr uintptr_t kReachBytes = (uintptr_t{1} << 31) - (1 << 16);
// Below it vm.mmap_min_addr may refuse.
constexpr uintptr_t kLowestAddress = 1 << 16;
constexpr uintptr_t kHighestAddress = uintptr_t{1} << 47;
// Another thread may take the gap between our look and our map; not for ever.
constexpr int kTriesMax = 16;

struct Arena {
  uintptr_t begin;
  uintptr_t end;
  uintptr_t used_end;  // patching thread only
};

Arena arenas[kArenasMax];
// Published with release after the arena's bounds, which never change; read with acquire.
constinit std::atomic<size_t> arena_count{0};

struct Reach {
  uintptr_t low;
  uintptr_t high;
  bool covers(const Arena& arena) const { return arena.begin >= low && arena.end <= high; }
};

Reach reach_of(const ElfImage& image) {
  Reach reach{kLowestAddress, image.low() + kReachBytes};
  if (image.high() > kReachBytes + kLowestAddress) reach.low = image.high() - kReachBytes;
  if (reach.high > kHighestAddress) reach.high = kHighestAddress;
  return reach;
}

// Reads the "begin-end" of each line of /proc/self/maps.
class MapsReader {
 public:
  MapsReader()
      : file_(system_call(SYS_openat, AT_FDCWD, address_of("/proc/self/maps"),
                          O_RDONLY | O_CLOEXEC)) {}
  ~MapsReader() {
    if (file_ >= 0) system_call(SYS_close, file_);
  }
  MapsReader(const MapsReader&) = delete;
  MapsReader& operator=(const MapsReader&) = delete;

  bool next(uintptr_t& begin, uintptr_t& end) {
    if (!read_number('-', begin) || !read_number(' ', end)) return false;
    for (char c; (c = read_character()) != '\n';) {
      if (c == '\0') return false;
    }
    return true;
  }

 private:
  bool read_number(char stop, uintptr_t& value) {
    value = 0;
    for (char c; (c = read_character()) != stop;) {
      const bool digit = c >= '0' && c <= '9';
      if (!digit && (c < 'a' || c > 'f')) return false;
      value = value * 16 + static_cast<uintptr_t>(digit ? c - '0' : c - 'a' + 10);
    }
    return true;
  }
  // 0 at the end.
  char read_character() {
    if (at_ == size_) {
      const long count =
          file_ < 0 ? 0 : system_call(SYS_read, file_, address_of(buffer_), sizeof buffer_);
      if (count <= 0) return '\0';
      size_ = static_cast<size_t>(count);
      at_ = 0;
    }
    return buffer_[at_++];
  }

  long file_;
  size_t at_ = 0;
  size_t size_ = 0;
  char buffer_[4096];
};

// The place for an arena nearest below the image, else the first above it; 0 = none. Below comes
// first because a program's heap grows upwards from its end.
uintptr_t find_gap(const ElfImage& image, const Reach& reach, size_t bytes) {
  MapsReader maps;
  uintptr_t below = 0;
  uintptr_t gap_begin = kLowestAddress;
  const auto place_in = [&](uintptr_t begin, uintptr_t end) -> uintptr_t {
    if (begin < reach.low) begin = reach.low;
    if (end > reach.high) end = reach.high;
    return begin < end && end - begin >= bytes ? align_down(end - bytes, kPageBytes) : 0;
  };
  for (uintptr_t begin, end; maps.next(begin, end); gap_begin = end) {
    const uintptr_t place = place_in(gap_begin, begin);
    if (place == 0 || place < gap_begin) continue;
    if (place >= image.high()) return below != 0 ? below : place;
    if (place < image.low()) below = place;
  }
  return below;
}

Arena* map_arena(const ElfImage& image, size_t bytes) {
  const size_t count = arena_count.load(std::memory_order_relaxed);  // only we write it
  if (count == kArenasMax) return nullptr;
  const Reach reach = reach_of(image);
  for (int i = 0; i < kTriesMax; ++i) {
    const uintptr_t place = find_gap(image, reach, bytes);
    if (place == 0) return nullptr;
    const long result = system_call(
        SYS_mmap, static_cast<long>(place), static_cast<long>(bytes), PROT_READ | PROT_EXEC,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1);
    if (result == static_cast<long>(place)) {
      arenas[count] = {place, place + bytes, place};
      // Pairs with the acquire load in in_stub_arena(): the bounds are visible before the count.
      arena_count.store(count + 1, std::memory_order_release);
      return &arenas[count];
    }
    if (!failed(result)) {  // a kernel before 4.17 took the address as a hint
      system_call(SYS_munmap, result, static_cast<long>(bytes));
    } else if (result != -EEXIST) {
      return nullptr;
    }
  }
  return nullptr;
}

}  // namespace

uintptr_t allocate_stubs(const ElfImage& image, size_t bytes) {
  bytes = align_up(bytes, kPageBytes);
  const Reach reach = reach_of(image);
  Arena* chosen = nullptr;
  for (size_t i = 0; i < arena_count.load(std::memory_order_relaxed) && chosen == nullptr; ++i) {
    if (reach.covers(arenas[i]) && arenas[i].end - arenas[i].used_end >= bytes) {
      chosen = &arenas[i];
    }
  }
  if (chosen == nullptr) chosen = map_arena(image, bytes > kArenaBytes ? bytes : kArenaBytes);
  if (chosen == nullptr) return 0;
  const uintptr_t block = chosen->used_end;
  chosen->used_end += bytes;
  return block;
}

bool in_stub_arena(uintptr_t address) {
  // Pairs with the release store in map_arena().
  const size_t count = arena_count.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    if (address >= arenas[i].begin && address < arenas[i].end) return true;
  }
  return false;
}

}  // namespace weft::preload
