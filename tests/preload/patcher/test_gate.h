// test_gate.h - what test_gate.S hands to C++, and what it counted.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "preload/patcher/patcher.h"

extern "C" void test_gate_entry();

namespace weft::preload::test {

// In the order of the pushes, from the last.
struct GateFrame {
  uint64_t rbx;
  const Site* site;
  uint64_t r9, r8, r10, rdx, rsi, rdi;
  uint64_t rax;
};

struct GateCounts {
  std::atomic<uint64_t> entries{0};
  std::atomic<uint64_t> inline_calls{0};
  std::atomic<uint64_t> wrong_number{0};  // the site promised another call number
  std::atomic<const Site*> last_site{nullptr};
};
extern GateCounts gate_counts;

// The block that %gs points to; its byte 16 is what a stub sets after an inline call.
struct alignas(64) WorkerBlock {
  std::array<uint8_t, 64> bytes{};
};
extern WorkerBlock worker_block;
bool point_gs_at_worker_block();

}  // namespace weft::preload::test
