// cxx_mutexes.cc - std::thread, the mutex types, condition variables and call_once.
// Checks [thread.mutex.requirements], [thread.timedmutex.requirements] "try_lock_until ... returns
// false" not before its time, [thread.sharedmutex], [thread.condition] and [thread.once.callonce].
// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <queue>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "tests/programs/expect.h"

namespace {

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

constexpr int kThreads = 16;
constexpr int kRounds = 2000;

template <typename Body>
void run_threads(int count, Body body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (auto& thread : threads) thread.join();
}

void a_mutex_excludes() {
  std::mutex lock;
  std::recursive_mutex nested;
  long long plain = 0, twice = 0;
  run_threads(kThreads, [&](int) {
    for (int i = 0; i < kRounds; ++i) {
      {
        std::lock_guard guard(lock);
        ++plain;
      }
      std::lock_guard outer(nested);
      std::lock_guard inner(nested);
      ++twice;
      if (i % 256 == 0) std::this_thread::yield();
    }
  });
  EXPECT_EQ(plain, kThreads * kRounds);
  EXPECT_EQ(twice, kThreads * kRounds);
}

void two_mutexes_are_locked_without_deadlock() {
  std::mutex left, right;
  int crossings = 0;
  run_threads(kThreads, [&](int number) {
    for (int i = 0; i < kRounds / 4; ++i) {
      if (number % 2 == 0) {
        std::scoped_lock both(left, right);
        ++crossings;
      } else {
        std::scoped_lock both(right, left);
        ++crossings;
      }
    }
  });
  EXPECT_EQ(crossings, kThreads * kRounds / 4);
}

void timed_mutexes_give_up_at_their_time() {
  std::timed_mutex lock;
  std::recursive_timed_mutex nested;
  lock.lock();
  nested.lock();
  std::thread([&] {
    const auto until = Steady::now() + milliseconds(20);
    EXPECT(!lock.try_lock_until(until));
    EXPECT(Steady::now() >= until);
    EXPECT(!nested.try_lock_for(milliseconds(5)));
    EXPECT(!lock.try_lock());
    EXPECT(!lock.try_lock_until(std::chrono::system_clock::now() + milliseconds(5)));
  }).join();
  std::thread waiter([&] {
    EXPECT(lock.try_lock_for(milliseconds(int{kAwaitMs})));
    lock.unlock();
  });
  settle();
  lock.unlock();
  waiter.join();
  EXPECT(nested.try_lock());
  nested.unlock();
  nested.unlock();
}

void a_shared_mutex_shares_readers_only() {
  std::shared_timed_mutex lock;
  std::atomic<int> readers{0};
  run_threads(kThreads, [&](int) {
    std::shared_lock guard(lock);
    ++readers;
    AWAIT(readers == kThreads);
  });
  std::shared_lock reading(lock);
  std::thread([&] {
    EXPECT(!lock.try_lock());
    EXPECT(lock.try_lock_shared());
    lock.unlock_shared();
    const auto until = Steady::now() + milliseconds(15);
    EXPECT(!lock.try_lock_until(until));
    EXPECT(Steady::now() >= until);
  }).join();
  reading.unlock();
  std::shared_mutex halves;
  long long first = 0, second = 0;
  run_threads(kThreads, [&](int number) {
    for (int i = 0; i < kRounds / 4; ++i) {
      if (number % 4 == 0) {
        std::unique_lock guard(halves);
        ++first;
        ++second;
      } else {
        std::shared_lock guard(halves);
        EXPECT_EQ(first, second);
      }
    }
  });
}

void a_condition_variable_hands_over() {
  std::mutex lock;
  std::condition_variable changed;
  std::queue<int> queue;
  bool closed = false;
  long long sum = 0;
  std::thread consumer([&] {
    std::unique_lock guard(lock);
    for (;;) {
      changed.wait(guard, [&] { return !queue.empty() || closed; });
      if (queue.empty()) return;
      sum += queue.front();
      queue.pop();
    }
  });
  run_threads(4, [&](int number) {
    for (int i = 0; i < kRounds; ++i) {
      std::lock_guard guard(lock);
      queue.push(number);
      changed.notify_one();
    }
  });
  {
    std::lock_guard guard(lock);
    closed = true;
  }
  changed.notify_all();
  consumer.join();
  EXPECT_EQ(sum, (0 + 1 + 2 + 3) * kRounds);
}

void condition_variables_time_out() {
  std::mutex lock;
  std::condition_variable never;
  std::condition_variable_any never_any;
  std::unique_lock guard(lock);
  const auto until = Steady::now() + milliseconds(15);
  EXPECT(!never.wait_until(guard, until, [] { return false; }));
  EXPECT(Steady::now() >= until);
  EXPECT(!never_any.wait_for(guard, milliseconds(5), [] { return false; }));
  const auto wall = std::chrono::system_clock::now() + milliseconds(5);
  EXPECT(!never.wait_until(guard, wall, [] { return false; }));
  EXPECT(guard.owns_lock());
}

void call_once_tries_again_after_an_exception() {
  std::once_flag flag;
  std::atomic<int> calls{0}, failures{0}, finished{0};
  run_threads(kThreads, [&](int) {
    try {
      std::call_once(flag, [&] {
        if (++calls < 3) throw 1;
        settle();
        finished = 1;
      });
      EXPECT_EQ(finished, 1);
    } catch (int) {
      ++failures;
    }
  });
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(failures, 2);
}

void threads_have_ids_and_can_be_detached() {
  std::thread::id inside;
  std::thread thread([&] { inside = std::this_thread::get_id(); });
  const std::thread::id outside = thread.get_id();
  thread.join();
  EXPECT(inside == outside);
  EXPECT(inside != std::this_thread::get_id());
  EXPECT(!thread.joinable());
  static std::atomic<bool> done{false};
  std::thread([] { done = true; }).detach();
  AWAIT(done);
  EXPECT(std::thread::hardware_concurrency() >= 1);
}

}  // namespace

int main() {
  RUN(a_mutex_excludes);
  RUN(two_mutexes_are_locked_without_deadlock);
  RUN(timed_mutexes_give_up_at_their_time);
  RUN(a_shared_mutex_shares_readers_only);
  RUN(a_condition_variable_hands_over);
  RUN(condition_variables_time_out);
  RUN(call_once_tries_again_after_an_exception);
  RUN(threads_have_ids_and_can_be_detached);
  return 0;
}
