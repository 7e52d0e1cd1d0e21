// futex_table.cc - the futex parking lot (futex_table.h).
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/futex_table.h"

#include "platform/netpoller.h"
#include "scheduler/assert.h"
#include "scheduler/scheduler.h"
#include "scheduler/timer_wheel.h"

namespace weft {
namespace {

struct Bucket;

// One word that a parked fiber waits for; on its stack.
struct Waiter {
  Waiter* next = nullptr;
  Waiter* previous = nullptr;
  FutexKey key;
  uint32_t bits = kFutexAnyBit;
  Fiber* fiber = nullptr;
  Ticket ticket = 0;
  // Of several words only: a waker came and could not claim the wait. Changes under the bucket's
  // lock.
  std::atomic<bool> missed{false};
  // Changes under the locks of both buckets (requeue); read without one only to know which to lock.
  std::atomic<Bucket*> bucket{nullptr};
};

struct alignas(64) Bucket {
  SpinLock lock;
  Waiter* head WEFT_GUARDED_BY(lock) = nullptr;
  Waiter* tail WEFT_GUARDED_BY(lock) = nullptr;

  void append(Waiter& waiter) WEFT_REQUIRES(lock) {
    waiter.next = nullptr;
    waiter.previous = tail;
    if (tail == nullptr) {
      head = &waiter;
    } else {
      tail->next = &waiter;
    }
    tail = &waiter;
    // Relaxed: the reader takes this bucket's lock and looks again.
    waiter.bucket.store(this, std::memory_order_relaxed);
  }
  void remove(Waiter& waiter) WEFT_REQUIRES(lock) {
    (waiter.previous == nullptr ? head : waiter.previous->next) = waiter.next;
    (waiter.next == nullptr ? tail : waiter.next->previous) = waiter.previous;
    waiter.bucket.store(nullptr, std::memory_order_relaxed);
  }
};

// 4096 buckets of a cache line: 256 KiB of untouched bss until used; at 10,000 waiters lists stay
// at two or three.
constexpr unsigned kBucketBits = 12;
constinit Bucket g_buckets[1 << kBucketBits];

Bucket& bucket_of(FutexKey key) {
  // Fibonacci hashing (Knuth 6.4): words lie at multiples of 4 to 64.
  return g_buckets[(key.value * 0x9E3779B97F4A7C15u) >> (64 - kBucketBits)];
}

struct WaitTimer : Timer {
  Fiber* fiber = nullptr;
  Ticket ticket = 0;
};

Fiber* on_deadline(Timer& timer) {
  auto& wait = static_cast<WaitTimer&>(timer);
  return claim(*wait.fiber, wait.ticket, WaitState::timed_out) ? wait.fiber : nullptr;
}

void unlock_bucket(void* bucket) WEFT_NO_ANALYSIS { static_cast<Bucket*>(bucket)->lock.unlock(); }

// After a time-out or an interrupt nobody dequeued us; a requeue may have moved us meanwhile.
void dequeue(Waiter& waiter) WEFT_NO_ANALYSIS {
  for (;;) {
    Bucket* bucket = waiter.bucket.load(std::memory_order_relaxed);
    if (bucket == nullptr) return;
    LockGuard guard(bucket->lock);
    if (waiter.bucket.load(std::memory_order_relaxed) != bucket) continue;
    bucket->remove(waiter);
    return;
  }
}

FutexOutcome to_outcome(WaitState state) {
  if (state == WaitState::timed_out) return FutexOutcome::timed_out;
  if (state == WaitState::interrupted) return FutexOutcome::interrupted;
  return FutexOutcome::woken;
}

void arm(WaitTimer& timer, Fiber& fiber, Ticket ticket, int64_t deadline_ns) {
  if (deadline_ns == platform::kForever) return;
  timer.fiber = &fiber;
  timer.ticket = ticket;
  timer.fire = on_deadline;
  timer.deadline_ns = deadline_ns;
  Worker& worker = *current_worker();
  worker.timers.insert(timer, worker.netpoller->now_ns());
}

// Claims one waiter. One that waits for several words may still be on its way to park:
//   waker                                     waiter of several words
//   1 claim fails; missed_ticket = ticket     1 publish the wait
//   2 full barrier                            2 full barrier
//   3 claim once more                         3 claim missed_ticket for itself
bool claim_waiter(Waiter& waiter) {
  if (claim(*waiter.fiber, waiter.ticket, WaitState::woken)) return true;
  waiter.missed.store(true, std::memory_order_relaxed);  // ordered by the bucket's lock
  // 1. Relaxed: ordered by the barrier.
  waiter.fiber->missed_ticket.store(waiter.ticket, std::memory_order_relaxed);
  full_barrier();                                        // 2
  return claim(*waiter.fiber, waiter.ticket, WaitState::woken);  // 3
}

// Claims waiters of `key` and chains their fibers by Fiber::next. A waiter whose claim fails has
// timed out or was interrupted; it dequeues itself and does not count.
uint32_t collect(Bucket& bucket, FutexKey key, uint32_t count, uint32_t bits, Fiber**& woken_tail)
    WEFT_REQUIRES(bucket.lock) {
  uint32_t woken = 0;
  for (Waiter* waiter = bucket.head; waiter != nullptr && woken < count;) {
    Waiter* following = waiter->next;
    if (waiter->key.value == key.value && (waiter->bits & bits) != 0) {
      Fiber* fiber = waiter->fiber;
      if (claim_waiter(*waiter)) {
        bucket.remove(*waiter);
        fiber->next = nullptr;
        *woken_tail = fiber;
        woken_tail = &fiber->next;
        woken++;
      }
    }
    waiter = following;
  }
  return woken;
}

// Whether nothing has ended the wait yet. One whose time is up dequeues itself, but only when it
// runs. Relaxed: a moment's truth, as it is in the kernel.
bool still_waits(const Waiter& waiter) {
  const uint64_t word = waiter.fiber->wait_word.load(std::memory_order_relaxed);
  return word == (waiter.ticket | static_cast<uint64_t>(WaitState::pending)) ||
         word == (waiter.ticket | static_cast<uint64_t>(WaitState::preparing));
}

// Locks two buckets in the order of their addresses (the lock order of lock.h), or one once.
class TwoBuckets {
 public:
  TwoBuckets(Bucket& a, Bucket& b) WEFT_NO_ANALYSIS : first_(&a < &b ? a : b),
                                                      second_(&a < &b ? b : a) {
    first_.lock.lock();
    if (&first_ != &second_) second_.lock.lock();
  }
  ~TwoBuckets() WEFT_NO_ANALYSIS {
    if (&first_ != &second_) second_.lock.unlock();
    first_.lock.unlock();
  }

 private:
  Bucket& first_;
  Bucket& second_;
};

void unpark_chain(Fiber* list) {
  // Whoever woke them runs on a worker of the fibers' scheduler, or is foreign to all.
  while (list != nullptr) {
    Fiber* following = list->next;
    list->home->scheduler->unpark(*list);
    list = following;
  }
}

}  // namespace

FutexOutcome futex_wait(FutexKey key, const volatile uint32_t* word, uint32_t expected,
                        uint32_t bits, int64_t deadline_ns) WEFT_NO_ANALYSIS {
  Fiber& fiber = *current_fiber();
  Waiter waiter;
  waiter.key = key;
  waiter.bits = bits;
  waiter.fiber = &fiber;
  WaitTimer timer;
  Bucket& bucket = bucket_of(key);
  bucket.lock.lock();  // 1
  // 2. Sequentially consistent, as the kernel's read under its bucket lock is for the program.
  if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected) {
    bucket.lock.unlock();
    return FutexOutcome::value_differs;
  }
  waiter.ticket = begin_wait(fiber, WaitState::pending);
  bucket.append(waiter);  // 3
  arm(timer, fiber, waiter.ticket, deadline_ns);
  const WaitState state = park(fiber, WaitReason::futex, word, unlock_bucket, &bucket);  // 4, 5
  timer.cancel();
  if (state != WaitState::woken) dequeue(waiter);
  return to_outcome(state);
}

FutexOutcome futex_wait_any(const FutexWaitItem* items, uint32_t count, int64_t deadline_ns,
                            uint32_t& woken_index) WEFT_NO_ANALYSIS {
  constexpr uint32_t kMax = 128;  // FUTEX_WAITV_MAX, futex_waitv(2)
  WEFT_CHECK(count <= kMax, count);
  Fiber& fiber = *current_fiber();
  Waiter waiters[kMax];
  WaitTimer timer;
  const Ticket ticket = begin_wait(fiber, WaitState::pending);
  uint32_t queued = 0;
  bool differs = false;
  for (; queued < count && !differs; queued++) {
    Waiter& waiter = waiters[queued];
    waiter.key = items[queued].key;
    waiter.fiber = &fiber;
    waiter.ticket = ticket;
    Bucket& bucket = bucket_of(waiter.key);
    LockGuard guard(bucket.lock);
    differs = __atomic_load_n(items[queued].word, __ATOMIC_SEQ_CST) != items[queued].expected;
    bucket.append(waiter);
  }
  WaitState state = WaitState::idle;
  if (differs) {
    abandon_wait(fiber);
  } else {
    arm(timer, fiber, ticket, deadline_ns);
    state = park(
        fiber, WaitReason::futex, items[0].word,
        [](void* argument) {
          // The wait is published: the fiber may be running elsewhere and its stack be reused.
          // A ticket that is not of its present wait claims nothing.
          auto& self = *static_cast<Fiber*>(argument);
          full_barrier();                                                             // 2
          const Ticket missed = self.missed_ticket.load(std::memory_order_relaxed);  // 3
          if (claim(self, missed, WaitState::woken)) self.home->scheduler->unpark(self);
        },
        &fiber);
    timer.cancel();
  }
  // The waker that dequeued us counted us; one that we missed did not, and comes second.
  woken_index = count;
  uint32_t missed_index = count;
  for (uint32_t i = 0; i < queued; i++) {
    if (waiters[i].bucket.load(std::memory_order_relaxed) == nullptr) woken_index = i;
    dequeue(waiters[i]);
    if (waiters[i].missed.load(std::memory_order_relaxed)) missed_index = i;
  }
  if (woken_index == count) woken_index = missed_index;
  if (differs) return FutexOutcome::value_differs;
  return to_outcome(state);
}

uint32_t futex_wake(FutexKey key, uint32_t count, uint32_t bits) {
  if (count == 0) return 0;
  Bucket& bucket = bucket_of(key);
  Fiber* list = nullptr;
  Fiber** tail = &list;
  uint32_t woken;
  {
    LockGuard guard(bucket.lock);
    woken = collect(bucket, key, count, bits, tail);
  }
  unpark_chain(list);
  return woken;
}

FutexRequeue futex_requeue(FutexKey source, FutexKey target, uint32_t wake_count,
                           uint32_t requeue_count, const volatile uint32_t* word,
                           const uint32_t* expected) WEFT_NO_ANALYSIS {
  Bucket& from = bucket_of(source);
  Bucket& to = bucket_of(target);
  Fiber* list = nullptr;
  Fiber** tail = &list;
  FutexRequeue result{0, 0};
  {
    TwoBuckets guard(from, to);
    if (expected != nullptr && __atomic_load_n(word, __ATOMIC_SEQ_CST) != *expected) {
      return {-1, 0};
    }
    result.woken = collect(from, source, wake_count, kFutexAnyBit, tail);
    result.affected = result.woken;
    uint32_t moved = 0;
    for (Waiter* waiter = from.head; waiter != nullptr && moved < requeue_count;) {
      Waiter* following = waiter->next;
      if (waiter->key.value == source.value && still_waits(*waiter)) {
        moved++;
        // To the word itself: counted, and keeps its place.
        if (source.value != target.value) {
          from.remove(*waiter);
          waiter->key = target;
          to.append(*waiter);
        }
      }
      waiter = following;
    }
    result.affected += moved;
  }
  unpark_chain(list);
  return result;
}

uint32_t futex_wake_op(FutexKey first, uint32_t first_count, FutexKey second,
                       uint32_t second_count, bool (*change)(void*), void* argument)
    WEFT_NO_ANALYSIS {
  Bucket& a = bucket_of(first);
  Bucket& b = bucket_of(second);
  Fiber* list = nullptr;
  Fiber** tail = &list;
  uint32_t woken;
  {
    TwoBuckets guard(a, b);
    const bool wake_second = change(argument);
    woken = collect(a, first, first_count, kFutexAnyBit, tail);
    if (wake_second) woken += collect(b, second, second_count, kFutexAnyBit, tail);
  }
  unpark_chain(list);
  return woken;
}

void futex_table_forget() WEFT_NO_ANALYSIS {
  for (Bucket& bucket : g_buckets) {
    if (bucket.head != nullptr) bucket.head = bucket.tail = nullptr;
    bucket.lock.unlock();
  }
}

}  // namespace weft
