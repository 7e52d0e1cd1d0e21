// histogram.h - a histogram of nanoseconds with a relative error below 1/64, for quantiles.
// Guarantee: adding is a few instructions and allocates nothing; every uint64_t has a slot.
// Used by one thread. Included by loadgen.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace bench {

// Each power of two is split into 64 slots; values below 64 have a slot each.
class Histogram {
 public:
  void add(uint64_t value) {
    ++slots_[slot_of(value)];
    ++count_;
    max_ = std::max(max_, value);
  }

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }

  // The lower edge of the slot in which the value of rank quantile * count lies; 0 if empty.
  uint64_t quantile(double quantile) const {
    const auto rank = static_cast<uint64_t>(quantile * static_cast<double>(count_));
    uint64_t seen = 0;
    for (size_t slot = 0; slot < slots_.size(); ++slot) {
      seen += slots_[slot];
      if (seen > rank) return lower_edge(slot);
    }
    return max_;
  }

 private:
  static constexpr unsigned kSplitBits = 6;
  static constexpr size_t kSplit = size_t{1} << kSplitBits;

  static size_t slot_of(uint64_t value) {
    if (value < kSplit) return static_cast<size_t>(value);
    const unsigned top = 63U - static_cast<unsigned>(__builtin_clzll(value));
    const uint64_t within = (value >> (top - kSplitBits)) & (kSplit - 1);
    return (top - kSplitBits + 1) * kSplit + static_cast<size_t>(within);
  }
  static uint64_t lower_edge(size_t slot) {
    if (slot < kSplit) return slot;
    const size_t shift = slot / kSplit - 1;
    return static_cast<uint64_t>(kSplit + slot % kSplit) << shift;
  }

  std::vector<uint64_t> slots_ = std::vector<uint64_t>((64 - kSplitBits + 1) * kSplit);
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

}  // namespace bench
