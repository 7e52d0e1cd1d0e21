// gate.h - the gate's C++ half: from a frame to a call body, and what happens on the way out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syscalls/call_frame.h"

namespace weft {

struct GateAnswer {
  Result result;
  uint64_t execute_at_site;
};

// Called by gate.S. May park: everything read before is stale afterwards but the frame.
extern "C" GateAnswer weft_gate(CallFrame* frame);
// Attention was set: signals, a preemption. Returns the result to leave with.
extern "C" Result weft_gate_attention(CallFrame* frame);

// The body of the frame's call met a fault. Returns the result to leave with.
extern "C" Result weft_gate_abandoned(CallFrame* frame);
// RuntimeHooks::abandon_call: where a context goes on that is to give the call up.
void abandon_call(CallFrame* frame, uint64_t& rip, uint64_t& rsp, uint64_t& rbp);

// The assembly's labels.
extern "C" void weft_gate_entry();
extern "C" void weft_gate_abandon();
extern "C" void weft_resume_frame(CallFrame* frame);

}  // namespace weft
