// threads - what does a thread cost from pthread_create to the end of pthread_join?
// create_join: one at a time, so libc reuses one cached stack. create_join_100: 100 are created,
// then joined, which is more stacks than libc's cache holds. Both in ns per thread.
// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/micro.h"

namespace {

constexpr uint64_t kCrowd = 100;

void* count_up(void* argument) {
  ++*static_cast<uint64_t*>(argument);
  return nullptr;
}

uint64_t one_at_a_time(uint64_t operations) {
  uint64_t ran = 0;
  for (uint64_t i = 0; i < operations; ++i) {
    micro::join_thread(micro::start_thread(count_up, &ran));
  }
  micro::expect(ran == operations, "each thread ran once");
  return operations;
}

uint64_t crowds(uint64_t operations) {
  const uint64_t rounds = (operations + kCrowd - 1) / kCrowd;
  for (uint64_t round = 0; round < rounds; ++round) {
    uint64_t ran[kCrowd] = {};
    pthread_t threads[kCrowd];
    for (uint64_t i = 0; i < kCrowd; ++i) threads[i] = micro::start_thread(count_up, &ran[i]);
    for (uint64_t i = 0; i < kCrowd; ++i) micro::join_thread(threads[i]);
    for (const uint64_t runs : ran) micro::expect(runs == 1, "each thread ran once");
  }
  return rounds * kCrowd;
}

}  // namespace

int main(int argc, char** argv) {
  const micro::Plan plan = micro::parse_plan(argc, argv, 2000);
  micro::measure("create_join", plan, one_at_a_time);
  micro::measure("create_join_100", plan, crowds);
}
