// counters.h - what the runtime counts about calls, for --stats and for the audit.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace weft {

struct CallCounters {
  // Relaxed everywhere: figures, not decisions.
  std::atomic<uint64_t> by_disposition[8] = {};
  std::atomic<uint64_t> unknown{0};
  std::atomic<uint64_t> last_unknown{0};
  std::atomic<uint64_t> threads_born{0};
  std::atomic<uint64_t> signals_delivered{0};
};
extern CallCounters g_call_counters;

void count_unknown_call(uint64_t number);

}  // namespace weft
