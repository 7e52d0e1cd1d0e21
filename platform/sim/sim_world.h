// sim_world.h - the simulated system: virtual time, descriptors, and all operations under way.
// Several netpollers (one per simulated worker) share one world; one kernel thread drives them all:
//   loop:  run every worker until its poll() delivers nothing   ->   advance()
// Everything that happens follows from the seed and the order of calls. Time moves in advance()
// only, straight to the next thing that will happen; when there is none, it says so: a deadlock.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "platform/netpoller.h"
#include "platform/sim/sim_files.h"
#include "platform/sim/sim_random.h"

namespace weft::platform {

class SimNetpoller;

class SimWorld {
 public:
  explicit SimWorld(const SimOptions& options = {});
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  int64_t now_ns() const { return now_ns_; }
  // Moves time to the next completion, cancel or deadline of any netpoller. True also when one of
  // them has something to deliver now. False: nothing will ever happen.
  bool advance();

  // The system calls that the contract leaves to the system; see SimFiles.
  SimFiles& files() { return files_; }
  // Wakes up to `count` futex_wait operations on the word, oldest first. Returns how many.
  int wake_futex(const uint32_t& word, int count);
  const SimOptions& options() const { return options_; }

 private:
  friend class SimNetpoller;

  // The completions of one netpoller that have their result, by the time they are to arrive.
  struct Arrival {
    int64_t due_ns;
    uint64_t rank;
    bool operator<(const Arrival& other) const {
      return due_ns != other.due_ns ? due_ns < other.due_ns : rank < other.rank;
    }
  };
  struct Result {
    Completion* completion;
    int64_t value;
  };
  using Arrivals = std::map<Arrival, Result>;

  void add(SimNetpoller& netpoller) { netpollers_.push_back(&netpoller); }
  void remove(SimNetpoller& netpoller);
  uint64_t add_task(SimNetpoller& owner, Completion& completion);
  // 0: it has its result already.
  uint64_t task_of(const Completion& completion) const;
  void cancel(uint64_t id);
  // Lets everything happen that can happen at the present time.
  void settle();
  void attempt(uint64_t id);
  void finish(uint64_t id, int64_t result);
  // A random time from now on, or now.
  int64_t maybe_later(double probability);

  SimOptions options_;
  SimRandom random_;
  // Before the tasks, which share its files.
  SimFiles files_;
  int64_t now_ns_ = 1'000'000'000;
  uint64_t next_id_ = 1;
  // By id, that is in order of submission.
  std::map<uint64_t, SimTask> tasks_;
  // For finding only; never walked, since the order of addresses is not deterministic.
  std::unordered_map<const Completion*, uint64_t> ids_;
  std::multimap<int64_t, uint64_t> cancels_;  // when, which task
  std::vector<SimNetpoller*> netpollers_;
};

}  // namespace weft::platform
