// cxx_exceptions.cc - exceptions thrown, caught and rethrown around blocking calls, in 64 threads.
// Checks [except.handle] and [except.special] (std::current_exception and uncaught_exceptions are
// per thread) while each thread yields, sleeps or reads inside try blocks, handlers and
// destructors.
// SPDX-License-Identifier: Apache-2.0
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/programs/expect.h"

namespace {

constexpr int kThreads = 64;
constexpr int kRounds = 40;

void wait_somehow(int turn) {
  switch (turn % 3) {
    case 0:
      std::this_thread::yield();
      break;
    case 1:
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      break;
    default: {
      int ends[2];
      char byte = 'x';
      EXPECT_SYS(pipe(ends));
      EXPECT_EQ(write(ends[1], &byte, 1), 1);
      EXPECT_EQ(read(ends[0], &byte, 1), 1);
      close(ends[0]);
      close(ends[1]);
    }
  }
}

// Blocks while the stack is being unwound through it.
class WaitingGuard {
 public:
  WaitingGuard(int turn, int& unwound) : turn_(turn), unwound_(unwound) {}
  ~WaitingGuard() {
    EXPECT_EQ(std::uncaught_exceptions(), 1);
    wait_somehow(turn_);
    ++unwound_;
  }

 private:
  int turn_;
  int& unwound_;
};

[[noreturn]] __attribute__((noinline)) void throw_from_depth(int depth, int turn, int& unwound) {
  WaitingGuard guard(turn + depth, unwound);
  if (depth == 0) throw std::runtime_error("thrown in turn " + std::to_string(turn));
  throw_from_depth(depth - 1, turn, unwound);
}

void throw_and_catch(int number) {
  for (int round = 0; round < kRounds; ++round) {
    const int turn = number * 1000 + round;
    int unwound = 0;
    bool rethrown = false;
    try {
      try {
        wait_somehow(turn);
        throw_from_depth(3, turn, unwound);
      } catch (const std::runtime_error& error) {
        wait_somehow(turn + 1);
        EXPECT(std::string(error.what()) == "thrown in turn " + std::to_string(turn));
        EXPECT_EQ(std::uncaught_exceptions(), 0);
        throw;
      }
    } catch (const std::exception& error) {
      wait_somehow(turn + 2);
      EXPECT(std::current_exception() != nullptr);
      EXPECT(std::string(error.what()) == "thrown in turn " + std::to_string(turn));
      rethrown = true;
    }
    EXPECT(rethrown);
    EXPECT_EQ(unwound, 4);
    EXPECT(std::current_exception() == nullptr);
  }
}

void each_thread_has_its_own_exceptions() {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(throw_and_catch, i);
  for (auto& thread : threads) thread.join();
}

void an_exception_travels_between_threads() {
  std::exception_ptr carried;
  std::thread([&carried] {
    try {
      wait_somehow(1);
      throw std::out_of_range("from another thread");
    } catch (...) {
      carried = std::current_exception();
    }
  }).join();
  try {
    std::rethrow_exception(carried);
  } catch (const std::out_of_range& error) {
    say("carried: %s\n", error.what());
  }
}

}  // namespace

int main() {
  RUN(each_thread_has_its_own_exceptions);
  RUN(an_exception_travels_between_threads);
  return 0;
}
