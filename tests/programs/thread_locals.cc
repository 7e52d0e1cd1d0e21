// thread_locals.cc - thread_local objects: one a thread, initialised there, destroyed at its end.
// Checks [basic.stc.thread] "a variable with thread storage duration ... is initialized before its
// first use and, if constructed, destroyed on thread exit", across calls that block and yield.
// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/programs/expect.h"

namespace {

constexpr int kThreads = 100;
constexpr int kRounds = 20;

std::atomic<int> built_count{0};
std::atomic<int> destroyed_count{0};

class Named {
 public:
  Named() : text_("unnamed object with a text too long for the small buffer") { ++built_count; }
  Named(const Named&) = delete;
  Named& operator=(const Named&) = delete;
  ~Named() {
    // A destructor runs on its own thread and may block there.
    sched_yield();
    EXPECT(text_ == expected_);
    ++destroyed_count;
  }
  void rename(int number) {
    text_ = "object of thread number " + std::to_string(number);
    expected_ = text_;
  }
  bool holds(int number) const {
    return text_ == "object of thread number " + std::to_string(number);
  }

 private:
  std::string text_;
  std::string expected_ = text_;
};

thread_local Named object;
thread_local int zero_initialised;
thread_local int preset = 42;
thread_local std::vector<int> history;

void use_own_objects(int number) {
  EXPECT_EQ(zero_initialised, 0);
  EXPECT_EQ(preset, 42);
  object.rename(number);
  zero_initialised = preset = number;
  const void* address = &zero_initialised;
  for (int round = 0; round < kRounds; ++round) {
    history.push_back(number);
    if (round % 4 == 0) {
      sleep_ms(1);
    } else {
      std::this_thread::yield();
    }
    EXPECT(object.holds(number));
    EXPECT_EQ(zero_initialised, number);
    EXPECT_EQ(preset, number);
    EXPECT(&zero_initialised == address);
    EXPECT_EQ(history.size(), round + 1);
    EXPECT_EQ(history.back(), number);
  }
}

void objects_are_the_threads_own() {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(use_own_objects, 1000 + i);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(built_count, kThreads);
  EXPECT_EQ(destroyed_count, kThreads);
}

void an_unused_object_is_not_built() {
  const int before = built_count;
  std::thread([] { sleep_ms(1); }).join();
  EXPECT_EQ(built_count, before);
}

void destructors_run_in_reverse_order() {
  static std::string order;
  struct Marker {
    const char* name;
    ~Marker() { order += name; }
  };
  std::thread([] {
    thread_local Marker first{"first "};
    thread_local Marker second{"second "};
    EXPECT(first.name != nullptr && second.name != nullptr);
  }).join();
  EXPECT(order == "second first ");
}

}  // namespace

int main() {
  RUN(objects_are_the_threads_own);
  RUN(an_unused_object_is_not_built);
  RUN(destructors_run_in_reverse_order);
  return 0;
}
