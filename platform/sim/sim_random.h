// sim_random.h - the only source of chance in the simulation: SplitMix64 (Steele, Lea, Flood 2014).
// The same seed gives the same sequence on every machine, unlike <random>'s distributions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft::platform {

class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15;
    uint64_t value = state_;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
    return value ^ (value >> 31);
  }

  // 0 to bound - 1; bound > 0. The bias of the remainder does not matter to a test.
  uint64_t below(uint64_t bound) { return next() % bound; }

  // True with the given probability, 0 to 1.
  bool chance(double probability) {
    if (probability <= 0) return false;  // and no number is used: options do not shift each other
    return static_cast<double>(next() >> 11) * 0x1.0p-53 < probability;
  }

 private:
  uint64_t state_;
};

}  // namespace weft::platform
