// text.h - short messages built without libc: a fixed buffer that cuts off, never overflows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "platform/os.h"

namespace weft {

inline size_t text_length(const char* text) {
  size_t length = 0;
  while (text[length] != 0) length++;
  return length;
}

inline bool text_equal(const char* a, const char* b) {
  while (*a != 0 && *a == *b) {
    a++;
    b++;
  }
  return *a == *b;
}

template <size_t kBytes>
class Text {
 public:
  Text& append(const char* text) {
    while (*text != 0 && length_ + 1 < kBytes) buffer_[length_++] = *text++;
    buffer_[length_] = 0;
    return *this;
  }
  Text& append_number(int64_t value) {
    if (value < 0) append("-");
    return append_unsigned(value < 0 ? uint64_t{0} - static_cast<uint64_t>(value)
                                     : static_cast<uint64_t>(value),
                           10);
  }
  Text& append_hex(uint64_t value) {
    append("0x");
    return append_unsigned(value, 16);
  }
  Text& append_unsigned(uint64_t value, unsigned base) {
    char digits[24];
    size_t count = sizeof digits;
    digits[--count] = 0;
    do {
      digits[--count] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    return append(digits + count);
  }
  const char* c_str() const { return buffer_; }
  size_t length() const { return length_; }
  void write_error() const { platform::write_error(buffer_, length_); }

 private:
  char buffer_[kBytes] = {};
  size_t length_ = 0;
};

}  // namespace weft
