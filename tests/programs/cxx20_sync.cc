// cxx20_sync.cc - latches, barriers, semaphores, atomic waiting, jthread and stop tokens.
// Checks [thread.latch.class], [thread.barrier.class] completion function, [thread.sema.cnt],
// [atomics.wait] and [thread.jthread.class] "requests stop, then joins" on destruction.
// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <semaphore>
#include <stop_token>
#include <thread>
#include <vector>

#include "tests/programs/expect.h"

namespace {

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

constexpr int kThreads = 20;
constexpr int kRounds = 100;

template <typename Body>
void run_threads(int count, Body body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (auto& thread : threads) thread.join();
}

void a_latch_opens_once() {
  std::latch ready(kThreads), start(1);
  std::atomic<int> started{0};
  std::thread opener([&] {
    ready.wait();
    EXPECT_EQ(started, 0);
    start.count_down();
  });
  run_threads(kThreads, [&](int) {
    ready.count_down();
    start.wait();
    ++started;
  });
  opener.join();
  EXPECT_EQ(started, kThreads);
  EXPECT(ready.try_wait());
}

void a_barrier_completes_each_phase() {
  std::atomic<int> arrivals{0};
  int phases = 0;
  auto complete = [&]() noexcept {
    ++phases;
    EXPECT_EQ(arrivals, phases * kThreads);
  };
  std::barrier barrier(kThreads, complete);
  run_threads(kThreads, [&](int) {
    for (int i = 0; i < kRounds; ++i) {
      ++arrivals;
      barrier.arrive_and_wait();
    }
  });
  EXPECT_EQ(phases, kRounds);
}

void semaphores_count_and_time_out() {
  // One acquirer for each semaphore: with more, libstdc++ 12 can sleep forever (PR 104928).
  std::counting_semaphore<> permits(0);
  std::thread acquirer([&] {
    for (int i = 0; i < kThreads * kRounds; ++i) permits.acquire();
  });
  run_threads(kThreads, [&](int) {
    for (int i = 0; i < kRounds; i += 4) {
      permits.release(3);
      std::this_thread::yield();
      permits.release();
    }
  });
  acquirer.join();
  EXPECT(!permits.try_acquire());
  std::binary_semaphore ping(0), pong(0);
  std::thread partner([&] {
    for (int i = 0; i < 10 * kRounds; ++i) {
      ping.acquire();
      pong.release();
    }
  });
  for (int i = 0; i < 10 * kRounds; ++i) {
    ping.release();
    pong.acquire();
  }
  partner.join();
  std::binary_semaphore empty(0);
  const auto until = Steady::now() + milliseconds(20);
  EXPECT(!empty.try_acquire_until(until));
  EXPECT(Steady::now() >= until);
  EXPECT(!empty.try_acquire());
  std::thread releaser([&] { empty.release(); });
  EXPECT(empty.try_acquire_for(milliseconds(int{kAwaitMs})));
  releaser.join();
}

void atomics_wait_for_a_change() {
  std::atomic<int> turn{0};
  run_threads(8, [&](int number) {
    for (int round = 0; round < kRounds; ++round) {
      const int mine = round * 8 + number;
      for (int seen = turn; seen != mine; seen = turn) turn.wait(seen);
      turn = mine + 1;
      turn.notify_all();
    }
  });
  EXPECT_EQ(turn, 8 * kRounds);
  std::atomic_flag flag;
  std::thread waiter([&] { flag.wait(false); });
  settle();
  flag.test_and_set();
  flag.notify_one();
  waiter.join();
  // A type that is not a futex word goes through the library's own table of waiters.
  std::atomic<char> letter{'a'};
  std::thread changer([&] {
    settle();
    letter = 'b';
    letter.notify_all();
  });
  letter.wait('a');
  changer.join();
}

void jthreads_stop_when_they_are_destroyed() {
  std::atomic<int> stopped{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&](std::stop_token token) {
        std::mutex lock;
        std::condition_variable_any changed;
        std::unique_lock guard(lock);
        EXPECT(!changed.wait(guard, token, [] { return false; }));
        EXPECT(token.stop_requested());
        ++stopped;
      });
    }
  }
  EXPECT_EQ(stopped, kThreads);
}

void stop_callbacks_run_on_the_requester() {
  std::stop_source source;
  std::atomic<int> calls{0};
  std::thread::id caller;
  std::stop_callback callback(source.get_token(), [&] {
    caller = std::this_thread::get_id();
    ++calls;
  });
  std::thread::id requester;
  std::thread([&] {
    requester = std::this_thread::get_id();
    EXPECT(source.request_stop());
    EXPECT(!source.request_stop());
  }).join();
  EXPECT_EQ(calls, 1);
  EXPECT(caller == requester);
}

}  // namespace

int main() {
  RUN(a_latch_opens_once);
  RUN(a_barrier_completes_each_phase);
  RUN(semaphores_count_and_time_out);
  RUN(atomics_wait_for_a_change);
  RUN(jthreads_stop_when_they_are_destroyed);
  RUN(stop_callbacks_run_on_the_requester);
  return 0;
}
