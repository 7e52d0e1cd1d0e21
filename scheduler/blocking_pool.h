// blocking_pool.h - kernel threads that run calls which nothing can complete asynchronously.
// No thread at the start; one more whenever a job finds none idle, up to the limit; a thread that
// had nothing to do for a while ends. A full pool queues: the caller is parked, never stuck.
// Pool threads block every signal and run no fiber.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "scheduler/fiber.h"

namespace weft {

struct BlockingJob {
  // Runs on a pool thread; may block. Must not touch the fiber's TLS: FS is the pool thread's.
  void (*run)(BlockingJob& self) = nullptr;

  BlockingJob* next = nullptr;  // the pool's
  Fiber* fiber = nullptr;
  Ticket ticket = 0;
};

// Most kernel threads: what Go and others found to be far above real need, and well below any limit
// on processes. WEFT_BLOCKING_MAX sets it.
inline constexpr uint32_t kBlockingMaxDefault = 128;
void set_blocking_max(uint32_t threads);
// How long a thread without work stays.
inline constexpr int64_t kBlockingIdleNsDefault = 5'000'000'000;
void set_blocking_idle_ns(int64_t idle_ns);

// Parks the running fiber while a pool thread runs the job. Not interruptible.
void run_blocking(BlockingJob& job);

uint32_t blocking_thread_count();
// For the child of a fork: the threads are gone.
void blocking_pool_forget();

}  // namespace weft
