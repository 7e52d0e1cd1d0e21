// netpoller_sim.h - the netpoller of the simulation: the contract of platform/netpoller.h in
// virtual time, with faults by choice, the same run for the same seed.
// poll() never blocks the kernel thread: with a deadline ahead and nothing to deliver it remembers
// the deadline and returns 0; SimWorld::advance() then moves time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "platform/netpoller.h"
#include "platform/sim/sim_world.h"

namespace weft::platform {

class SimNetpoller final : public Netpoller {
 public:
  explicit SimNetpoller(SimWorld& world);
  ~SimNetpoller();
  SimNetpoller(const SimNetpoller&) = delete;
  SimNetpoller& operator=(const SimNetpoller&) = delete;

  bool start() override { return true; }
  void submit(Completion& completion) override;
  void flush() override;
  uint32_t poll(int64_t deadline_ns) override;
  void cancel(Completion& completion) override;
  void wake() override { woken_ = true; }
  int64_t now_ns() override { return world_.now_ns(); }
  bool supports(OpKind kind) const override;
  uint32_t in_flight() const override { return in_flight_; }

 private:
  friend class SimWorld;

  bool has_arrival() const;

  SimWorld& world_;
  // Tasks of the world not handed over yet: to attempt first, and to cancel.
  std::vector<uint64_t> submitted_;
  std::vector<uint64_t> cancelled_;
  SimWorld::Arrivals arrivals_;
  uint32_t in_flight_ = 0;
  bool woken_ = false;
  int64_t deadline_ns_ = kForever;  // of the last poll() that found nothing
};

}  // namespace weft::platform
