// test_seed.h - the seeds of a test run: WEFT_SEED is the first (a new one each time without it),
// WEFT_SEEDS how many follow each other (200; 1 if WEFT_SEED is given).
// A failed assertion shows the seed it failed with; WEFT_SEED with that number repeats it alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>

namespace weft::scheduler_test {

uint64_t first_seed();
uint64_t seed_count();

// Calls body(seed) for every seed of this run.
template <typename Body>
void for_seeds(Body body) {
  for (uint64_t i = 0; i < seed_count(); i++) {
    const uint64_t seed = first_seed() + i;
    INFO("WEFT_SEED=" << seed);
    body(seed);
  }
}

}  // namespace weft::scheduler_test
