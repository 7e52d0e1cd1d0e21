// cxx_futures.cc - futures, promises, packaged tasks and async.
// Checks [futures.state] "makes ready", [futures.unique.future] wait_for and wait_until,
// [futures.async] launch policies, and that a stored exception comes out of get().
// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <future>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/programs/expect.h"

namespace {

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

constexpr int kTasks = 100;

long long sum_of(const std::vector<int>& numbers, size_t first, size_t last) {
  if (last - first <= 1000) {
    return std::accumulate(numbers.begin() + static_cast<long>(first),
                           numbers.begin() + static_cast<long>(last), 0LL);
  }
  const size_t middle = first + (last - first) / 2;
  auto left = std::async(std::launch::async, sum_of, std::cref(numbers), first, middle);
  const long long right = sum_of(numbers, middle, last);
  return left.get() + right;
}

void async_divides_and_conquers() {
  std::vector<int> numbers(40000);
  std::iota(numbers.begin(), numbers.end(), 1);
  EXPECT_EQ(sum_of(numbers, 0, numbers.size()), 40000LL * 40001 / 2);
}

void deferred_runs_on_the_caller() {
  auto id = std::async(std::launch::deferred, [] { return std::this_thread::get_id(); });
  EXPECT(id.wait_for(milliseconds(0)) == std::future_status::deferred);
  EXPECT(id.get() == std::this_thread::get_id());
}

void a_promise_wakes_every_shared_future() {
  std::promise<int> promise;
  std::shared_future<int> value = promise.get_future().share();
  std::vector<std::future<int>> readers;
  for (int i = 0; i < kTasks; ++i) {
    readers.push_back(std::async(std::launch::async, [value, i] { return value.get() + i; }));
  }
  EXPECT(value.wait_for(milliseconds(0)) == std::future_status::timeout);
  promise.set_value(7);
  long long sum = 0;
  for (auto& reader : readers) sum += reader.get();
  EXPECT_EQ(sum, 7LL * kTasks + kTasks * (kTasks - 1) / 2);
}

void waits_for_a_future_time_out() {
  std::promise<void> promise;
  auto future = promise.get_future();
  const auto until = Steady::now() + milliseconds(20);
  EXPECT(future.wait_until(until) == std::future_status::timeout);
  EXPECT(Steady::now() >= until);
  EXPECT(future.wait_for(milliseconds(5)) == std::future_status::timeout);
  std::thread setter([&promise] { promise.set_value(); });
  EXPECT(future.wait_for(milliseconds(int{kAwaitMs})) == std::future_status::ready);
  setter.join();
}

void exceptions_come_out_of_get() {
  auto thrower = std::async(std::launch::async, []() -> int {
    sleep_ms(1);
    throw std::invalid_argument("thrown in async");
  });
  try {
    thrower.get();
    expect_failed(__FILE__, __LINE__, "get() returned");
  } catch (const std::invalid_argument& error) {
    say("caught: %s\n", error.what());
  }
  std::future<int> orphan;
  {
    std::promise<int> promise;
    orphan = promise.get_future();
  }
  try {
    orphan.get();
    expect_failed(__FILE__, __LINE__, "get() returned");
  } catch (const std::future_error& error) {
    EXPECT(error.code() == std::future_errc::broken_promise);
  }
}

void packaged_tasks_run_elsewhere() {
  std::packaged_task<int(int)> task([](int value) { return value * value; });
  auto result = task.get_future();
  std::thread runner(std::move(task), 12);
  EXPECT_EQ(result.get(), 144);
  runner.join();
  std::packaged_task<int()> late([] { return 5; });
  auto late_result = late.get_future();
  std::thread([&late] { late.make_ready_at_thread_exit(); }).join();
  EXPECT_EQ(late_result.get(), 5);
}

}  // namespace

int main() {
  RUN(async_divides_and_conquers);
  RUN(deferred_runs_on_the_caller);
  RUN(a_promise_wakes_every_shared_future);
  RUN(waits_for_a_future_time_out);
  RUN(exceptions_come_out_of_get);
  RUN(packaged_tasks_run_elsewhere);
  return 0;
}
