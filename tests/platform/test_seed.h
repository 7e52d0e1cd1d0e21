// test_seed.h - the one seed of a test run: WEFT_SEED, or a new one each time.
// The runner prints it when a test fails; the same seed gives the same choices again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft::platform_test {

uint64_t test_seed();

}  // namespace weft::platform_test
