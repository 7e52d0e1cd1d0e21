// sim_scheduler.h - the scheduler in a simulated world: N workers, one kernel thread, one seed.
// Each worker's loop has a stack of its own. After every turn it comes back to the driver, which
// lets the seed choose who goes next; a worker that sleeps in its netpoller stays asleep, on the
// list of sleepers, until a completion, a deadline or a wake-up. So the idle protocol is under test
// too: when every worker sleeps, no fiber may be ready. Then, and only then (unless a test asks for
// hasty time), virtual time moves to the next event; when there is none and fibers live, that is a
// deadlock, told with all their states.
// Guarantee: the same seed gives the same run.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "platform/sim/netpoller_sim.h"
#include "platform/sim/sim_world.h"
#include "scheduler/scheduler.h"
#include "tests/scheduler/test_fiber.h"

namespace weft::scheduler_test {

class SimScheduler;
struct SimWorker;

// A SimNetpoller whose poll() does not return until it has a reason to.
class SleepingNetpoller final : public platform::Netpoller {
 public:
  SleepingNetpoller(platform::SimWorld& world, SimWorker& worker)
      : inner_(world), worker_(worker) {}

  bool start() override { return inner_.start(); }
  void submit(platform::Completion& completion) override { inner_.submit(completion); }
  void flush() override { inner_.flush(); }
  uint32_t poll(int64_t deadline_ns) override;
  void cancel(platform::Completion& completion) override { inner_.cancel(completion); }
  void wake() override;
  int64_t now_ns() override;
  bool supports(platform::OpKind kind) const override { return inner_.supports(kind); }
  uint32_t in_flight() const override { return inner_.in_flight(); }

  // Called by now_ns(): a place inside a call under test where "another thread" may do something.
  std::function<void()> on_now;

 private:
  platform::SimNetpoller inner_;
  SimWorker& worker_;
  bool woken_ = false;
};

struct SimWorker {
  SimWorker(platform::SimWorld& world, SimScheduler& sim) : netpoller(world, *this), owner(sim) {}
  Worker worker;
  SleepingNetpoller netpoller;
  SimScheduler& owner;
  platform::Context context;
  char* stack = nullptr;
  bool asleep = false;  // inside poll()
};

struct SimSettings {
  uint64_t seed = 1;
  uint32_t workers = 1;
  platform::SimOptions faults;  // its seed is ours
  // Of time moving on although some worker has something to do: as if workers were slow.
  double hasty_time = 0;
};

class SimScheduler {
 public:
  explicit SimScheduler(const SimSettings& settings);
  SimScheduler(uint64_t seed, uint32_t workers) : SimScheduler(SimSettings{seed, workers, {}, 0}) {}
  ~SimScheduler();
  SimScheduler(const SimScheduler&) = delete;
  SimScheduler& operator=(const SimScheduler&) = delete;

  // A new fiber. From a fiber: on its worker, next; from the test: by the global queue.
  Fiber& spawn(std::function<void()> body);
  // As if a thread of another world had made it: by the global queue, from wherever.
  Fiber& spawn_foreign(std::function<void()> body);
  // A fiber that has a worker of its own.
  Fiber& spawn_bound(std::function<void()> body);

  // Runs until every fiber has ended and every worker sleeps. Throws std::runtime_error with what
  // went wrong: a deadlock, a failed expectation, something left in flight.
  void run();

  // Inside fibers, where no exception may leave: remembers the first failure for run().
  void expect(bool condition, const char* text, int line);

  platform::SimWorld& world() { return world_; }
  platform::SimFiles& files() { return world_.files(); }
  Scheduler& scheduler() { return scheduler_; }
  SimWorker& worker(uint32_t index) { return *workers_[index]; }
  platform::SimRandom& random() { return random_; }
  int64_t now_ns() const { return world_.now_ns(); }
  uint32_t live() const { return static_cast<uint32_t>(live_.size()); }

  // Of the workers' loops.
  void pause(SimWorker& worker, bool asleep);

 private:
  Fiber& make(std::function<void()> body, Worker* home);
  void add_worker(bool bound);
  void resume(SimWorker& worker);
  // Lets workers go until every one of them sleeps, or no fiber lives.
  void settle();
  // Every worker sleeps: moves time. False: nothing will ever happen.
  bool advance();
  std::string states() const;
  void check_nothing_left();

  SimSettings settings_;
  platform::SimRandom random_;
  platform::SimWorld world_;
  Scheduler scheduler_;
  std::vector<std::unique_ptr<SimWorker>> workers_;
  std::set<TestFiber*> live_;
  platform::Context driver_context_;
  std::string failure_;
  uint64_t steps_ = 0;
};

#define SIM_EXPECT(sim, condition) (sim).expect((condition), #condition, __LINE__)

}  // namespace weft::scheduler_test
