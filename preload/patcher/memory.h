// memory.h - what the patcher uses in place of malloc and string functions: bounded tables in
// mappings of their own, and a line of text that cannot overflow.
// Guarantee: no libc call; a table never grows past its capacity and never moves.
// Not thread safe: each object belongs to the one patch_images() call that made it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/mman.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "platform/linux/system_call.h"

namespace weft::preload {

inline constexpr size_t kPageBytes = 4096;

inline constexpr uintptr_t align_down(uintptr_t value, size_t unit) {
  return value & ~(unit - 1);
}
inline constexpr uintptr_t align_up(uintptr_t value, size_t unit) {
  return (value + unit - 1) & ~(unit - 1);
}

inline bool failed(long result) {
  return result < 0 && result >= -4095;
}

// Private zeroed memory, or null. Untouched pages cost nothing.
inline void* map_private(size_t bytes) {
  const long result = platform::system_call(
      SYS_mmap, 0, static_cast<long>(align_up(bytes, kPageBytes)), PROT_READ | PROT_WRITE,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  return failed(result) ? nullptr : reinterpret_cast<void*>(result);
}
inline void unmap(void* address, size_t bytes) {
  platform::system_call(SYS_munmap, platform::address_of(address),
                        static_cast<long>(align_up(bytes, kPageBytes)));
}

// An append-only array with a fixed capacity.
template <typename T>
class BoundedTable {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit BoundedTable(size_t capacity)
      : data_(static_cast<T*>(map_private(capacity * sizeof(T)))),
        capacity_(data_ == nullptr ? 0 : capacity),
        mapped_bytes_(capacity * sizeof(T)) {}
  ~BoundedTable() {
    if (data_ != nullptr) unmap(data_, mapped_bytes_);
  }
  BoundedTable(const BoundedTable&) = delete;
  BoundedTable& operator=(const BoundedTable&) = delete;

  // False: full, or the system gave no memory.
  [[nodiscard]] bool push(const T& value) {
    if (size_ == capacity_) return false;
    data_[size_++] = value;
    return true;
  }
  // Makes the table full of zeroes, to be used as a plain array. False: no memory.
  [[nodiscard]] bool reserve_all() {
    size_ = capacity_;
    return data_ != nullptr;
  }
  void truncate(size_t size) { size_ = size < size_ ? size : size_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  std::span<const T> values() const { return {data_, size_}; }

 private:
  T* data_;
  size_t capacity_;
  size_t mapped_bytes_;
  size_t size_ = 0;
};

inline bool same_bytes(const uint8_t* a, const uint8_t* b, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

// Bounded, so that the compiler does not turn the loop into a call of strlen.
inline size_t text_length(const char* text, size_t bound) {
  size_t length = 0;
  while (length < bound && text[length] != '\0') ++length;
  return length;
}
inline bool same_text(const char* a, const char* b, size_t bound) {
  for (size_t i = 0; i < bound; ++i) {
    if (a[i] != b[i]) return false;
    if (a[i] == '\0') return true;
  }
  return false;
}
inline bool text_starts_with(const char* text, const char* prefix, size_t bound) {
  for (size_t i = 0; i < bound; ++i) {
    if (prefix[i] == '\0') return true;
    if (text[i] != prefix[i]) return false;
  }
  return false;
}

// Text in a caller's buffer, always terminated; what does not fit is cut and remembered.
class TextLine {
 public:
  TextLine(char* buffer, size_t capacity) : buffer_(buffer), capacity_(capacity) {
    buffer_[0] = '\0';
  }
  TextLine& add(const char* text) {
    for (size_t i = 0; text[i] != '\0' && add_character(text[i]); ++i) {
    }
    return *this;
  }
  TextLine& add_number(uint64_t value, unsigned base) {
    char digits[20];
    size_t count = 0;
    do {
      digits[count++] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    if (base == 16) add("0x");
    while (count != 0) add_character(digits[--count]);
    return *this;
  }
  TextLine& add_hex_bytes(std::span<const uint8_t> bytes) {
    for (const uint8_t byte : bytes) {
      add_character("0123456789abcdef"[byte >> 4]);
      add_character("0123456789abcdef"[byte & 15]);
    }
    return *this;
  }
  bool fits() const { return fits_; }

 private:
  bool add_character(char c) {
    if (length_ + 1 >= capacity_) return fits_ = false;
    buffer_[length_++] = c;
    buffer_[length_] = '\0';
    return true;
  }

  char* buffer_;
  size_t capacity_;
  size_t length_ = 0;
  bool fits_ = true;
};

}  // namespace weft::preload
