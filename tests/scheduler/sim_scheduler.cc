// sim_scheduler.cc - the driver of the simulated workers.
// SPDX-License-Identifier: Apache-2.0
#include "tests/scheduler/sim_scheduler.h"

#include <stdexcept>

#include "platform/thread_pointer.h"
#include "scheduler/futex_table.h"

namespace weft::scheduler_test {
namespace {

// A run of the tests takes some thousand steps; this many mean that it goes in circles.
constexpr uint64_t kStepsMax = 5'000'000;

void set_current(Worker& worker) {
  platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&worker));
}

platform::SimOptions seeded(platform::SimOptions options, uint64_t seed) {
  options.seed = seed;
  return options;
}

void worker_main(void* argument) {
  auto& self = *static_cast<SimWorker*>(argument);
  for (;;) {
    self.worker.take_turn();
    self.owner.pause(self, false);
  }
}

}  // namespace

uint32_t SleepingNetpoller::poll(int64_t deadline_ns) {
  for (;;) {
    const uint32_t delivered = inner_.poll(deadline_ns);
    if (delivered != 0 || woken_ || deadline_ns <= inner_.now_ns()) {
      woken_ = false;
      return delivered;
    }
    worker_.owner.pause(worker_, true);
  }
}

void SleepingNetpoller::wake() {
  woken_ = true;
  inner_.wake();
}

int64_t SleepingNetpoller::now_ns() {
  // Once: what it does may ask for the time, too.
  if (on_now) std::exchange(on_now, nullptr)();
  return inner_.now_ns();
}

SimScheduler::SimScheduler(const SimSettings& settings)
    : settings_(settings), random_(settings.seed), world_(seeded(settings.faults, settings.seed)) {
  for (uint32_t i = 0; i < settings.workers; i++) add_worker(false);
}

SimScheduler::~SimScheduler() {
  // After a failure fibers may still wait for words that go away with the test.
  if (!live_.empty()) futex_table_forget();
  for (auto& worker : workers_) give_test_stack(worker->stack);
}

void SimScheduler::add_worker(bool bound) {
  workers_.push_back(std::make_unique<SimWorker>(world_, *this));
  SimWorker& worker = *workers_.back();
  worker.worker.netpoller = &worker.netpoller;
  if (bound) {
    scheduler_.add_bound(worker.worker);
  } else {
    scheduler_.add(worker.worker);
  }
  worker.stack = take_test_stack();
  platform::make_context(worker.context, worker.stack + kTestStackBytes, worker_main, &worker);
}

Fiber& SimScheduler::make(std::function<void()> body, Worker* home) {
  TestFiber& fiber = make_test_fiber(
      std::move(body),
      [](TestFiber& self) {
        static_cast<SimScheduler*>(self.owner)->live_.erase(&self);
        recycle_test_fiber(self);
      },
      this);
  fiber.bound = home != nullptr;
  fiber.home = home;
  live_.insert(&fiber);
  scheduler_.unpark(fiber);
  return fiber;
}

Fiber& SimScheduler::spawn(std::function<void()> body) {
  return make(std::move(body), nullptr);
}

Fiber& SimScheduler::spawn_foreign(std::function<void()> body) {
  Worker& before = *current_worker();
  set_current(foreign_worker());
  Fiber& fiber = make(std::move(body), nullptr);
  set_current(before);
  return fiber;
}

Fiber& SimScheduler::spawn_bound(std::function<void()> body) {
  add_worker(true);
  return make(std::move(body), &workers_.back()->worker);
}

void SimScheduler::expect(bool condition, const char* text, int line) {
  if (condition || !failure_.empty()) return;
  failure_ = "line " + std::to_string(line) + ": " + text;
}

void SimScheduler::pause(SimWorker& worker, bool asleep) {
  worker.asleep = asleep;
  weft_context_switch(&worker.context, &driver_context_, 0);
}

void SimScheduler::resume(SimWorker& worker) {
  set_current(worker.worker);
  weft_context_switch(&driver_context_, &worker.context, 0);
  set_current(foreign_worker());
}

void SimScheduler::settle() {
  // Workers that looked and went on sleeping since anything happened.
  std::set<SimWorker*> quiet;
  while (quiet.size() != workers_.size()) {
    if (++steps_ > kStepsMax) throw std::runtime_error("goes in circles" + states());
    if (random_.chance(settings_.hasty_time)) {
      world_.advance();
      quiet.clear();
    }
    SimWorker& worker = *workers_[random_.below(workers_.size())];
    resume(worker);
    if (worker.asleep) {
      quiet.insert(&worker);
    } else {
      quiet.clear();
    }
  }
}

bool SimScheduler::advance() {
  bool ready = !scheduler_.global.empty();
  for (auto& worker : workers_) {
    ready = ready || worker->worker.ready.size() != 0 ||
            worker->worker.next_slot.load(std::memory_order_relaxed) != nullptr ||
            worker->worker.bound_ready.load(std::memory_order_relaxed) != nullptr;
    if (!worker->worker.mailbox.empty()) throw std::runtime_error("asleep with mail" + states());
  }
  if (ready) throw std::runtime_error("a fiber is ready and every worker sleeps" + states());
  return world_.advance();
}

void SimScheduler::run() {
  for (;;) {
    settle();
    if (!failure_.empty()) throw std::runtime_error("expectation failed in a fiber, " + failure_);
    if (live_.empty()) break;
    if (!advance()) throw std::runtime_error("deadlock" + states());
  }
  check_nothing_left();
}

void SimScheduler::check_nothing_left() {
  for (auto& worker : workers_) {
    if (worker->netpoller.in_flight() != 0) throw std::runtime_error("operations left in flight");
    if (!worker->worker.timers.empty()) throw std::runtime_error("timers left in a wheel");
  }
  if (scheduler_.spinning_count.load(std::memory_order_relaxed) != 0) {
    throw std::runtime_error("every worker sleeps and one counts as spinning");
  }
}

std::string SimScheduler::states() const {
  std::string text = ": state reason wait of " + std::to_string(live_.size()) + " fibers:";
  for (const TestFiber* fiber : live_) {
    text += " " + std::to_string(static_cast<int>(fiber->state)) + "/" +
            std::to_string(static_cast<int>(fiber->reason)) + "/" +
            std::to_string(fiber->wait_word.load(std::memory_order_relaxed) & kWaitStateMask);
  }
  return text;
}

}  // namespace weft::scheduler_test
