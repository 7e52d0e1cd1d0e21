// test_main.cc - the runner: Catch2, and the seeds printed first, so that a crash shows them too.
// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "platform/thread_pointer.h"
#include "scheduler/worker.h"
#include "tests/scheduler/test_seed.h"

namespace weft::scheduler_test {

uint64_t first_seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("WEFT_SEED");
    if (text != nullptr) return static_cast<uint64_t>(std::strtoull(text, nullptr, 0));
    // Short, to be typed; the seeds in a row only have to differ.
    return uint64_t{std::random_device()()};
  }();
  return seed;
}

uint64_t seed_count() {
  static const uint64_t count = [] {
    const char* text = std::getenv("WEFT_SEEDS");
    if (text != nullptr) return static_cast<uint64_t>(std::strtoull(text, nullptr, 0));
    return std::getenv("WEFT_SEED") != nullptr ? uint64_t{1} : uint64_t{200};
  }();
  return count;
}

}  // namespace weft::scheduler_test

int main(int argc, char** argv) {
  namespace test = weft::scheduler_test;
  // The runner's thread is no worker: what it makes ready goes to the global queue.
  weft::platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&weft::foreign_worker()));
  std::fprintf(stderr, "WEFT_SEED=%llu WEFT_SEEDS=%llu\n",
               static_cast<unsigned long long>(test::first_seed()),
               static_cast<unsigned long long>(test::seed_count()));
  const int failed = Catch::Session().run(argc, argv);
  return failed == 0 ? 0 : 1;
}
