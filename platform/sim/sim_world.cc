// sim_world.cc - from submission to arrival: attempts, random delays, cancels, and time.
// SPDX-License-Identifier: Apache-2.0
#include "platform/sim/sim_world.h"

#include <algorithm>
#include <cerrno>

#include "platform/sim/netpoller_sim.h"

namespace weft::platform {

SimWorld::SimWorld(const SimOptions& options)
    : options_(options), random_(options.seed), files_(random_, options_) {}

void SimWorld::remove(SimNetpoller& netpoller) {
  std::erase(netpollers_, &netpoller);
  // Operations that its owner abandoned go with it.
  for (auto at = tasks_.begin(); at != tasks_.end();) {
    if (at->second.owner != &netpoller) {
      ++at;
      continue;
    }
    ids_.erase(at->second.completion);
    at = tasks_.erase(at);
  }
}

int64_t SimWorld::maybe_later(double probability) {
  if (options_.delay_max_ns <= 0 || !random_.chance(probability)) return now_ns_;
  return now_ns_ + 1 +
         static_cast<int64_t>(random_.below(static_cast<uint64_t>(options_.delay_max_ns)));
}

uint64_t SimWorld::add_task(SimNetpoller& owner, Completion& completion) {
  const uint64_t id = next_id_++;
  SimTask& task = tasks_[id];
  task.id = id;
  task.completion = &completion;
  task.owner = &owner;
  ids_[&completion] = id;
  return id;
}

uint64_t SimWorld::task_of(const Completion& completion) const {
  const auto found = ids_.find(&completion);
  return found == ids_.end() ? 0 : found->second;
}

void SimWorld::attempt(uint64_t id) {
  const auto found = tasks_.find(id);
  if (found == tasks_.end()) return;  // finished since it was put on the list
  const std::optional<int64_t> result = files_.attempt(found->second);
  if (result.has_value()) finish(id, *result);
}

void SimWorld::finish(uint64_t id, int64_t result) {
  auto node = tasks_.extract(id);
  SimTask& task = node.mapped();
  ids_.erase(task.completion);
  // Ranks are unique: the id is in the low half of a random number, or alone.
  const uint64_t rank = options_.shuffle ? (random_.next() << 32) | (id & 0xFFFFFFFF) : id;
  const Arrival arrival = {maybe_later(options_.delay_probability), rank};
  task.owner->arrivals_.emplace(arrival, Result{task.completion, result});
}

void SimWorld::cancel(uint64_t id) {
  if (tasks_.count(id) == 0) return;  // it has its result already: too late
  cancels_.emplace(maybe_later(options_.cancel_delay_probability), id);
}

void SimWorld::settle() {
  for (;;) {
    while (files_.has_retries()) {
      std::vector<uint64_t> ids = files_.take_retries();
      if (options_.shuffle) {
        for (size_t i = ids.size(); i > 1; i--) std::swap(ids[i - 1], ids[random_.below(i)]);
      }
      for (const uint64_t id : ids) attempt(id);
    }
    const auto due = cancels_.begin();
    if (due == cancels_.end() || due->first > now_ns_) return;
    const uint64_t id = due->second;
    cancels_.erase(due);
    const auto found = tasks_.find(id);
    if (found == tasks_.end()) continue;
    // What a MSG_WAITALL receive has taken so far is its result, as recv(2) says of a signal.
    const int64_t progress = found->second.progress;
    finish(id, progress > 0 ? progress : -ECANCELED);
  }
}

int SimWorld::wake_futex(const uint32_t& word, int count) {
  int woken = 0;
  std::vector<uint64_t> ids;
  for (auto& [id, task] : tasks_) {
    if (woken == count) break;
    const Op& op = task.completion->op;
    if (op.kind != OpKind::futex_wait || task.woken ||
        op.address != reinterpret_cast<uintptr_t>(&word)) {
      continue;
    }
    task.woken = true;
    woken++;
    ids.push_back(id);
  }
  for (const uint64_t id : ids) attempt(id);
  return woken;
}

bool SimWorld::advance() {
  settle();
  int64_t next = kForever;
  if (!cancels_.empty()) next = cancels_.begin()->first;
  for (const SimNetpoller* netpoller : netpollers_) {
    // Not handed over yet, or a wake-up not used yet: its worker has a turn to do now.
    if (netpoller->woken_ || !netpoller->submitted_.empty() || !netpoller->cancelled_.empty()) {
      return true;
    }
    next = std::min(next, netpoller->deadline_ns_);
    if (!netpoller->arrivals_.empty()) {
      next = std::min(next, netpoller->arrivals_.begin()->first.due_ns);
    }
  }
  if (next == kForever) return false;
  now_ns_ = std::max(now_ns_, next);
  settle();
  return true;
}

}  // namespace weft::platform
