// test_main.cc - the runner: Catch2, and the seed printed when something failed.
// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests/platform/test_seed.h"

namespace weft::platform_test {

uint64_t test_seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("WEFT_SEED");
    if (text != nullptr) return static_cast<uint64_t>(std::strtoull(text, nullptr, 0));
    std::random_device device;
    return (uint64_t{device()} << 32) | device();
  }();
  return seed;
}

}  // namespace weft::platform_test

int main(int argc, char** argv) {
  const int failed = Catch::Session().run(argc, argv);
  if (failed != 0) {
    std::fprintf(stderr, "failed with WEFT_SEED=%llu\n",
                 static_cast<unsigned long long>(weft::platform_test::test_seed()));
  }
  return failed == 0 ? 0 : 1;
}
