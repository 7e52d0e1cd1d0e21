// consumer.cc - says on what its threads run: "version V, fibers N of M, kernel threads K".
// All M threads are alive at once, each holds at a barrier. A fiber's id is above every pid_max.
// It calls no function of the library, and pthread_create only through std::thread: nothing in its
// object file makes a linker that is told --as-needed keep libweft.so.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>
#include <weft/weft.h>

#include <array>
#include <barrier>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <thread>
#include <vector>

static_assert(WEFT_VERSION_NUMBER >= WEFT_VERSION_OF(0, 1, 0));

int main() {
  constexpr int kThreads = 100;
  constexpr pid_t kFirstFiberId = 1 << 29;
  std::barrier all_here(kThreads + 1);
  std::barrier counted(kThreads + 1);
  std::array<pid_t, kThreads> ids{};
  std::vector<std::thread> threads;
  for (pid_t& id : ids) {
    threads.emplace_back([&] {
      id = gettid();
      all_here.arrive_and_wait();
      counted.arrive_and_wait();
    });
  }
  all_here.arrive_and_wait();
  using Tasks = std::filesystem::directory_iterator;
  const auto kernel_threads = std::distance(Tasks("/proc/self/task"), Tasks());
  counted.arrive_and_wait();
  for (std::thread& thread : threads) thread.join();
  int fibers = 0;
  for (const pid_t id : ids) fibers += id >= kFirstFiberId ? 1 : 0;
  std::printf("version %d.%d.%d, fibers %d of %d, kernel threads %td\n", WEFT_VERSION_MAJOR,
              WEFT_VERSION_MINOR, WEFT_VERSION_PATCH, fibers, kThreads, kernel_threads);
  return 0;
}
