// netpoller_sim.cc - handing operations to the world, and delivering what is due.
// SPDX-License-Identifier: Apache-2.0
#include "platform/sim/netpoller_sim.h"

#include <utility>

namespace weft::platform {

SimNetpoller::SimNetpoller(SimWorld& world) : world_(world) {
  world_.add(*this);
}

SimNetpoller::~SimNetpoller() {
  world_.remove(*this);
}

bool SimNetpoller::supports(OpKind kind) const {
  if (kind == OpKind::futex_wait) return world_.options().has_futex_wait;
  return kind < OpKind::wait_id;
}

void SimNetpoller::submit(Completion& completion) {
  completion.cancelling = false;
  in_flight_++;
  submitted_.push_back(world_.add_task(*this, completion));
}

void SimNetpoller::cancel(Completion& completion) {
  if (completion.cancelling) return;
  completion.cancelling = true;
  // By id: the memory may serve another operation, or nothing, when the cancel is handed over.
  const uint64_t id = world_.task_of(completion);
  if (id != 0) cancelled_.push_back(id);
}

void SimNetpoller::flush() {
  for (const uint64_t id : std::exchange(submitted_, {})) world_.attempt(id);
  world_.settle();
  for (const uint64_t id : std::exchange(cancelled_, {})) world_.cancel(id);
  world_.settle();
}

bool SimNetpoller::has_arrival() const {
  return !arrivals_.empty() && arrivals_.begin()->first.due_ns <= world_.now_ns();
}

uint32_t SimNetpoller::poll(int64_t deadline_ns) {
  flush();
  // What done() adds is the next poll()'s, even when it is due at once.
  std::vector<SimWorld::Result> batch;
  while (has_arrival()) {
    batch.push_back(arrivals_.begin()->second);
    arrivals_.erase(arrivals_.begin());
  }
  for (const SimWorld::Result& result : batch) {
    result.completion->result = result.value;
    in_flight_--;
    result.completion->done(*result.completion);
  }
  const bool waits = batch.empty() && !woken_ && deadline_ns > world_.now_ns();
  deadline_ns_ = waits ? deadline_ns : kForever;
  woken_ = false;
  return static_cast<uint32_t>(batch.size());
}

}  // namespace weft::platform
