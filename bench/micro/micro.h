// micro.h - batches, their median and the line that the plain micro programs print.
// Guarantee: every batch is timed as a whole and nothing else is; the line is
// `name=... ns=MEDIAN min_ns=F max_ns=F batches=N operations=N`. A wrong result ends the program.
// Each program starts a thread before it measures: until a program's first thread a preloaded
// runtime has no reason to do anything.
// Included by the programs of this folder, which know nothing of weft.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace micro {

struct Plan {
  uint64_t batches;
  uint64_t operations;  // per batch
};

// Usage: PROGRAM [BATCHES [OPERATIONS]].
inline Plan parse_plan(int argc, char** argv, uint64_t operations) {
  Plan plan{7, operations};
  if (argc > 1) plan.batches = std::strtoull(argv[1], nullptr, 10);
  if (argc > 2) plan.operations = std::strtoull(argv[2], nullptr, 10);
  if (argc > 3 || plan.batches == 0 || plan.operations == 0) {
    std::fprintf(stderr, "usage: %s [BATCHES [OPERATIONS]]\n", argv[0]);
    std::exit(2);
  }
  return plan;
}

// Ends the program unless `error` is 0.
inline void check(int error, const char* what) {
  if (error == 0) return;
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(error));
  std::exit(1);
}

inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "wrong result: %s\n", what);
  std::exit(1);
}

inline uint64_t now_ns() {
  timespec now{};
  check(clock_gettime(CLOCK_MONOTONIC, &now) == 0 ? 0 : errno, "clock_gettime");
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

inline pthread_t start_thread(void* (*body)(void*), void* argument) {
  pthread_t thread;
  check(pthread_create(&thread, nullptr, body, argument), "pthread_create");
  return thread;
}
inline void join_thread(pthread_t thread) {
  check(pthread_join(thread, nullptr), "pthread_join");
}

inline void start_and_join_one() {
  join_thread(start_thread([](void* argument) { return argument; }, nullptr));
}

// Runs one batch that is thrown away, then the plan's; body(operations) returns how many operations
// it did.
template <class Body>
void measure(const char* name, const Plan& plan, Body body) {
  body(plan.operations);
  std::vector<double> ns;
  for (uint64_t batch = 0; batch < plan.batches; ++batch) {
    const uint64_t start_ns = now_ns();
    const uint64_t done = body(plan.operations);
    const uint64_t end_ns = now_ns();
    ns.push_back(static_cast<double>(end_ns - start_ns) / static_cast<double>(done));
  }
  std::sort(ns.begin(), ns.end());
  const double median = (ns[ns.size() / 2] + ns[(ns.size() - 1) / 2]) / 2;
  std::printf("name=%s ns=%.1f min_ns=%.1f max_ns=%.1f batches=%llu operations=%llu\n", name,
              median, ns.front(), ns.back(), static_cast<unsigned long long>(plan.batches),
              static_cast<unsigned long long>(plan.operations));
  std::fflush(stdout);
}

}  // namespace micro
