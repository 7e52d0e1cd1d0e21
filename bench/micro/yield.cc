// yield - what does a switch between two threads cost that only call sched_yield()?
// Counts real switches (the other one ran in between), not calls, and prints ns per switch. Pin it
// to one core: on two cores the threads run side by side and what is counted is cache traffic.
// SPDX-License-Identifier: Apache-2.0
#include <sched.h>

#include <atomic>

#include "bench/micro/micro.h"

namespace {

// A scheduler that does not alternate at all would otherwise never end the batch.
constexpr uint64_t kYieldsPerSwitchMax = 1000;

// Relaxed throughout: the counts are all that is shared.
struct Floor {
  std::atomic<int> last{0};
  std::atomic<bool> over{false};
};

// True: the other one has been here since.
bool step(Floor& floor, int self) {
  return floor.last.exchange(self, std::memory_order_relaxed) != self;
}

void* partner(void* argument) {
  Floor& floor = *static_cast<Floor*>(argument);
  while (!floor.over.load(std::memory_order_relaxed)) {
    step(floor, 1);
    sched_yield();
  }
  return nullptr;
}

uint64_t alternate(Floor& floor, uint64_t switches) {
  const uint64_t turns = (switches + 1) / 2;
  const uint64_t yields_max = turns * kYieldsPerSwitchMax;
  uint64_t had = 0;
  for (uint64_t yields = 0; had < turns; ++yields) {
    micro::expect(yields < yields_max, "sched_yield() lets the other thread run");
    if (step(floor, 0)) ++had;
    sched_yield();
  }
  // Each turn of ours had one of the partner's before it.
  return turns * 2;
}

}  // namespace

int main(int argc, char** argv) {
  const micro::Plan plan = micro::parse_plan(argc, argv, 50000);
  Floor floor;
  const pthread_t thread = micro::start_thread(partner, &floor);
  micro::measure("yield", plan, [&](uint64_t count) { return alternate(floor, count); });
  floor.over.store(true, std::memory_order_relaxed);
  micro::join_thread(thread);
}
