// blocking_pool.cc - the pool of blocking kernel threads (blocking_pool.h).
//   job giver                                 pool thread
//   1 lock; queue the job; idle > 0: idle--,  1 lock; no job: idle++, unlock
//     taken++ and bump wake_word              2 sleep while wake_word is what it was under the lock
//   2 unlock; wake a sleeper, or start a      3 lock; taken > 0: taken--, else idle--; look again;
//     thread if none was idle                   still nothing and timed out: end
// wake_word changes under the lock, so a thread that counted itself idle sees the change or is woken.
// idle + taken is the number of threads between 1 and 3. Which of them was meant is not recorded:
// the first to come back is the one taken (it may be another than the one the kernel woke).
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/blocking_pool.h"

#include "platform/os.h"
#include "platform/thread_pointer.h"
#include "scheduler/assert.h"
#include "scheduler/lock.h"
#include "scheduler/scheduler.h"

namespace weft {
namespace {

// A raw system call needs little; 64 KiB leaves room for signal frames that cannot come.
constexpr size_t kStackBytes = 64 * 1024;

// A pool thread's stack and control block. Recycled when the kernel has zeroed `alive`.
struct PoolThread {
  PoolThread* next = nullptr;
  int alive = 0;
  char* memory = nullptr;
};

struct Pool {
  SpinLock lock;
  BlockingJob* head WEFT_GUARDED_BY(lock) = nullptr;
  BlockingJob* tail WEFT_GUARDED_BY(lock) = nullptr;
  uint32_t idle WEFT_GUARDED_BY(lock) = 0;
  uint32_t taken WEFT_GUARDED_BY(lock) = 0;
  uint32_t threads WEFT_GUARDED_BY(lock) = 0;
  uint32_t max = kBlockingMaxDefault;
  int64_t idle_ns = kBlockingIdleNsDefault;
  uint32_t wake_word = 0;  // atomic accesses; changes under the lock
  PoolThread* ended WEFT_GUARDED_BY(lock) = nullptr;
};

constinit Pool g_pool;

BlockingJob* take_locked() WEFT_REQUIRES(g_pool.lock) {
  BlockingJob* job = g_pool.head;
  if (job == nullptr) return nullptr;
  g_pool.head = job->next;
  if (g_pool.head == nullptr) g_pool.tail = nullptr;
  return job;
}

// Waits for a job. Null: idle for too long, and no longer counted.
BlockingJob* wait_for_job() {
  const int64_t deadline = platform::monotonic_ns() + g_pool.idle_ns;
  bool timed_out = false;
  for (;;) {
    uint32_t seen;
    {
      LockGuard guard(g_pool.lock);
      BlockingJob* job = take_locked();
      if (job != nullptr) return job;
      if (timed_out) {
        g_pool.threads--;
        return nullptr;
      }
      g_pool.idle++;
      seen = __atomic_load_n(&g_pool.wake_word, __ATOMIC_RELAXED);
    }
    const long result = platform::wait_on_word(&g_pool.wake_word, seen, deadline);
    LockGuard guard(g_pool.lock);
    if (g_pool.taken > 0) {
      g_pool.taken--;
    } else {
      g_pool.idle--;
      timed_out = result == -110 /* ETIMEDOUT */;
    }
  }
}

void run_job(BlockingJob& job) {
  Fiber* fiber = job.fiber;
  const Ticket ticket = job.ticket;
  job.run(job);
  // The job lies on the fiber's stack: not ours any more once the fiber is claimed.
  const bool won = claim(*fiber, ticket, WaitState::woken);
  WEFT_CHECK(won);
  fiber->home->scheduler->unpark(*fiber);
}

void give_back(PoolThread* thread) {
  LockGuard guard(g_pool.lock);
  thread->next = g_pool.ended;
  g_pool.ended = thread;
}

void pool_main(void* argument) {
  auto* thread = static_cast<PoolThread*>(argument);
  platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&foreign_worker()));
  while (BlockingJob* job = wait_for_job()) run_job(*job);
  give_back(thread);
  // The kernel zeroes `alive` when it no longer needs the stack.
  platform::exit_kernel_thread();
}

PoolThread* take_ended() {
  LockGuard guard(g_pool.lock);
  for (PoolThread** link = &g_pool.ended; *link != nullptr; link = &(*link)->next) {
    PoolThread* thread = *link;
    // Acquire: pairs with the kernel's store at the thread's end.
    if (__atomic_load_n(&thread->alive, __ATOMIC_ACQUIRE) != 0) continue;
    *link = thread->next;
    return thread;
  }
  return nullptr;
}

// Returns false if no thread could be had: the job stays queued for those there are.
bool start_thread(uintptr_t model) {
  PoolThread* thread = take_ended();
  if (thread == nullptr) {
    auto* memory =
        static_cast<char*>(platform::map_memory(kStackBytes + platform::kThreadBlockBytes));
    if (memory == nullptr) return false;
    // At the very bottom of the stack that it describes.
    thread = reinterpret_cast<PoolThread*>(memory);
    *thread = PoolThread{};
    thread->memory = memory;
  }
  thread->alive = 1;
  const uintptr_t block = platform::make_thread_block(thread->memory + kStackBytes, model);
  if (platform::start_kernel_thread(pool_main, thread, thread->memory + kStackBytes, block,
                                    &thread->alive) > 0) {
    return true;
  }
  thread->alive = 0;
  give_back(thread);
  return false;
}

// A counted thread could not be started. While there is none at all the queue is worked off here,
// on a worker: it ends at least.
void run_without_thread() {
  bool first = true;
  for (;;) {
    BlockingJob* job = nullptr;
    {
      LockGuard guard(g_pool.lock);
      if (first) g_pool.threads--;
      first = false;
      // Also jobs that others queued in the belief that our thread would come.
      if (g_pool.threads == 0) job = take_locked();
    }
    if (job == nullptr) return;
    run_job(*job);
  }
}

void submit(void* argument) {
  auto* job = static_cast<BlockingJob*>(argument);
  bool wake = false;
  bool start = false;
  {
    LockGuard guard(g_pool.lock);
    job->next = nullptr;
    if (g_pool.tail == nullptr) {
      g_pool.head = job;
    } else {
      g_pool.tail->next = job;
    }
    g_pool.tail = job;
    if (g_pool.idle > 0) {
      g_pool.idle--;
      g_pool.taken++;
      __atomic_store_n(&g_pool.wake_word, g_pool.wake_word + 1, __ATOMIC_RELEASE);
      wake = true;
    } else if (g_pool.threads < g_pool.max) {
      g_pool.threads++;
      start = true;
    }
  }
  if (wake) platform::wake_word(&g_pool.wake_word, 1);
  if (start && !start_thread(current_worker()->loop_thread_pointer)) run_without_thread();
}

}  // namespace

void set_blocking_max(uint32_t threads) { g_pool.max = threads; }
void set_blocking_idle_ns(int64_t idle_ns) { g_pool.idle_ns = idle_ns; }

void run_blocking(BlockingJob& job) {
  Fiber& fiber = *current_fiber();
  job.fiber = &fiber;
  job.ticket = begin_wait(fiber, WaitState::uninterruptible);
  // Submitted once our context is saved: the pool may be done before we have left.
  park(fiber, WaitReason::blocking_pool, &job, submit, &job);
}

uint32_t blocking_thread_count() {
  LockGuard guard(g_pool.lock);
  return g_pool.threads;
}

void blocking_pool_forget() WEFT_NO_ANALYSIS {
  g_pool.head = nullptr;
  g_pool.tail = nullptr;
  g_pool.idle = 0;
  g_pool.taken = 0;
  g_pool.threads = 0;
  g_pool.ended = nullptr;
  g_pool.lock.unlock();
}

}  // namespace weft
