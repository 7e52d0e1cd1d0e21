// watchdog.h - one kernel thread that looks at the workers once a tick while any of them is busy.
// It wakes a sleeping worker for a fiber that has been ready for a tick with nobody coming, and asks
// for preemption of a fiber that computes while others wait. It sleeps when every worker does.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft {

class Scheduler;
class Worker;

// A tick costs a few microseconds; a fiber left in a next slot waits at most two of them.
inline constexpr int64_t kWatchdogTickNs = 1'000'000;
// Go's forcePreemptNS: how long a fiber may compute while others are ready.
inline constexpr int64_t kPreemptAfterNs = 10'000'000;

// Starts the watchdog's kernel thread. preempt(worker) asks the fiber that runs there to yield; it
// is the preload floor's (a directed signal). Returns 0 or -errno.
long start_watchdog(Scheduler& scheduler, void (*preempt)(Worker& worker), uintptr_t model);

// Wakes it from the deep sleep it announced in scheduler.watchdog_asleep.
void wake_watchdog(Scheduler& scheduler);

}  // namespace weft
