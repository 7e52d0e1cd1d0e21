// counters.cc - the call counters (counters.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/counters.h"

namespace weft {

constinit CallCounters g_call_counters;

void count_unknown_call(uint64_t number) {
  g_call_counters.unknown.fetch_add(1, std::memory_order_relaxed);
  g_call_counters.last_unknown.store(number, std::memory_order_relaxed);
}

}  // namespace weft
