// switch_bench.cc - what changing fibers costs, in nanoseconds per switch, without libc or the gate.
// BM_switch_context: the bare register switch, with the FS base written as every switch between
// threads does. BM_yield_fibers: a whole turn of the scheduler, queues and all, between n fibers.
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <vector>

#include "platform/context.h"
#include "platform/os.h"
#include "platform/thread_pointer.h"
#include "scheduler/scheduler.h"

namespace {

constexpr size_t kStackBytes = 64 * 1024;

char* stack_top() {
  auto* stack = static_cast<char*>(weft::platform::map_memory(kStackBytes));
  if (stack == nullptr) std::abort();
  return stack + kStackBytes;
}

struct PingPong {
  weft::platform::Context here;
  weft::platform::Context there;
  uintptr_t thread_pointer = 0;
};

void answer(void* argument) {
  auto& pair = *static_cast<PingPong*>(argument);
  for (;;) weft::platform::weft_context_switch(&pair.there, &pair.here, pair.thread_pointer);
}

void BM_switch_context(benchmark::State& state) {
  PingPong pair;
  // Our own FS base: written each time, as if it were another thread's.
  if (state.range(0) != 0) pair.thread_pointer = weft::platform::read_thread_pointer();
  weft::platform::make_context(pair.there, stack_top(), answer, &pair);
  for (auto _ : state) {
    weft::platform::weft_context_switch(&pair.here, &pair.there, pair.thread_pointer);
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * 2);
  state.counters["ns_per_switch"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * 2,
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(BM_switch_context)->ArgName("fs_base")->Arg(0)->Arg(1);

// A netpoller to which nothing ever happens: the scheduler alone is measured.
class QuietNetpoller final : public weft::platform::Netpoller {
 public:
  void submit(weft::platform::Completion&) override {}
  void flush() override {}
  uint32_t poll(int64_t) override { return 0; }
  void cancel(weft::platform::Completion&) override {}
  void wake() override {}
  int64_t now_ns() override { return weft::platform::monotonic_ns(); }
  bool supports(weft::platform::OpKind) const override { return false; }
  uint32_t in_flight() const override { return 0; }
  bool start() override { return true; }
};

uint64_t g_yields = 0;

void yield_for_ever(void*) {
  weft::Worker::finish_switch();
  for (;;) {
    g_yields++;
    weft::yield();
  }
}

void BM_yield_fibers(benchmark::State& state) {
  QuietNetpoller netpoller;
  weft::Scheduler scheduler;
  weft::Worker worker;
  worker.netpoller = &netpoller;
  scheduler.add(worker);
  const uintptr_t before = weft::platform::read_worker_pointer();
  weft::platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&worker));
  // Fibers outlive the loop below: never freed, as the runtime's.
  for (int64_t i = 0; i < state.range(0); i++) {
    auto* fiber = new weft::Fiber;
    fiber->home = &worker;
    fiber->thread_pointer = weft::platform::read_thread_pointer();
    weft::platform::make_context(fiber->context, stack_top(), yield_for_ever, nullptr);
    scheduler.unpark(*fiber);
  }
  const uint64_t first = g_yields;
  // A turn runs fibers one after another, up to a poll.
  for (auto _ : state) worker.take_turn();
  state.counters["ns_per_yield"] =
      benchmark::Counter(static_cast<double>(g_yields - first),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  weft::platform::write_worker_pointer(before);
}
BENCHMARK(BM_yield_fibers)->ArgName("fibers")->Arg(2)->Arg(100)->Arg(200);

}  // namespace
