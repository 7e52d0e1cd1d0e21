// real_scheduler.cc - starting, waiting for and stopping real workers.
// SPDX-License-Identifier: Apache-2.0
#include "tests/scheduler/real_scheduler.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "platform/os.h"
#include "platform/thread_pointer.h"

namespace weft::scheduler_test {
namespace {

// Between two looks at a condition that nobody announces.
constexpr int64_t kLookNs = 1'000'000;

}  // namespace

RealScheduler::RealScheduler(uint32_t workers) {
  static auto& all = *new std::vector<State*>;  // kept reachable to the end
  state_ = new State;
  all.push_back(state_);
  for (uint32_t i = 0; i < workers; i++) {
    auto* worker = new RealWorker;
    worker->worker.netpoller = &worker->netpoller;
    state_->workers.push_back(worker);
    state_->scheduler.add(worker->worker);
  }
  for (RealWorker* worker : state_->workers) {
    threads_.emplace_back([this, worker] { work(*state_, *worker); });
  }
  wait_for("workers to start", [&] { return state_->started.load() == workers; });
}

RealScheduler::~RealScheduler() {
  state_->stop.store(true);
  for (RealWorker* worker : state_->workers) worker->netpoller.wake();
  for (std::thread& thread : threads_) thread.join();
}

void RealScheduler::work(State& state, RealWorker& self) {
  platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&self.worker));
  if (!self.netpoller.start()) {
    std::printf("skipped: no io_uring here: %s\n",
                std::strerror(static_cast<int>(-self.netpoller.start_error())));
    std::fflush(stdout);
    std::_Exit(77);
  }
  self.worker.kernel_tid = static_cast<int>(platform::kernel_thread_id());
  state.started.fetch_add(1);
  while (!state.stop.load()) self.worker.take_turn();
}

Fiber& RealScheduler::spawn(std::function<void()> body) {
  TestFiber& fiber = make_test_fiber(
      std::move(body),
      [](TestFiber& self) {
        auto& state = *static_cast<State*>(self.owner);
        recycle_test_fiber(self);
        if (state.live.fetch_sub(1) == 1) platform::wake_word(&state.live, 1);
      },
      state_);
  const uint32_t number = state_->fiber_count.fetch_add(1);
  if (number < std::size(state_->fibers)) state_->fibers[number].store(&fiber);
  state_->live.fetch_add(1);
  state_->scheduler.unpark(fiber);
  return fiber;
}

void RealScheduler::wait_all() {
  const int64_t bound_ns = platform::monotonic_ns() + kBoundNs;
  for (uint32_t live = state_->live.load(); live != 0; live = state_->live.load()) {
    platform::wait_on_word(&state_->live, live, platform::monotonic_ns() + 100 * kLookNs);
    if (platform::monotonic_ns() > bound_ns) dump("fibers to end");
  }
}

void RealScheduler::wait_for(const char* what, const std::function<bool()>& condition) {
  const int64_t bound_ns = platform::monotonic_ns() + kBoundNs;
  const uint32_t never = 0;
  while (!condition()) {
    platform::wait_on_word(&never, 0, platform::monotonic_ns() + kLookNs);
    if (platform::monotonic_ns() > bound_ns) dump(what);
  }
}

uint64_t RealScheduler::sum(std::atomic<uint64_t> WorkerStats::*counter) {
  uint64_t total = 0;
  for (RealWorker* worker : state_->workers) total += (worker->worker.stats.*counter).load();
  return total;
}

void RealScheduler::dump(const char* what) {
  std::fprintf(stderr, "waited in vain for %s; %u fibers live\n", what, state_->live.load());
  for (RealWorker* worker : state_->workers) {
    const Worker& w = worker->worker;
    std::fprintf(
        stderr,
        "worker %u: running %d ready %u next %d mail %d timers %u in flight %u turns %llu\n",
        w.index, w.running != nullptr, w.ready.size(), w.next_slot.load() != nullptr,
        !w.mailbox.empty(), w.timers.size(), worker->netpoller.in_flight(),
        static_cast<unsigned long long>(w.turn.load()));
  }
  std::fprintf(stderr, "global %u spinning %u idle %d\n", state_->scheduler.global.size(),
               state_->scheduler.spinning_count.load(), state_->scheduler.has_idle_worker());
  uint32_t shown = 0;
  for (const std::atomic<TestFiber*>& entry : state_->fibers) {
    const TestFiber* fiber = entry.load();
    if (fiber == nullptr || fiber->state == FiberState::dead || ++shown > 50) continue;
    std::fprintf(stderr, "fiber %p: state %d reason %d wait %d home %d\n",
                 static_cast<const void*>(fiber), static_cast<int>(fiber->state),
                 static_cast<int>(fiber->reason), static_cast<int>(wait_outcome(*fiber)),
                 fiber->home == nullptr ? -1 : static_cast<int>(fiber->home->index));
  }
  std::abort();
}

}  // namespace weft::scheduler_test
