// signals.h - signals for virtual kernel threads: whose they are, and when their handlers run.
// One master handler is the kernel's for every signal that the program handles or has blocked. It
// runs on whatever worker the kernel chose, with every signal blocked:
//   the worker runs the program's code  -> a target is chosen; if it is the running fiber, its
//                                          handler runs at once, on its stack, in the kernel's frame
//   the worker runs the runtime         -> the signal is noted in the worker's ring, without a lock,
//                                          and looked at when the runtime is left or takes a turn
// Delivery to another fiber: queued there, `attention` set, its wait interrupted; the handler runs
// on its way out of the gate.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syscalls/call_frame.h"
#include "syscalls/signal_queue.h"
#include "syscalls/thread.h"

namespace weft {

// What the program asked for: the kernel's struct sigaction.
struct SignalAction {
  uint64_t handler = 0;  // 0: default, 1: ignore
  uint64_t flags = 0;
  uint64_t restorer = 0;
  uint64_t mask = 0;
};

// At start: the program's actions are read from the kernel, the handled ones taken over; the first
// thread gets the kernel thread's mask.
void take_over_signals(Thread& main_thread);
// In a fork's child: the kernel gets the program's own actions and the fiber's mask back.
void return_signals(Thread& thread);

// Sends SIGPIPE to the running fiber, whose call met a broken pipe.
void send_broken_pipe_signal();
// Sends a signal to one fiber. 0, or -EAGAIN (a real-time one without memory to queue it).
Result send_to_thread(Thread& thread, const SignalInfo& info);

// A mask for the duration of a wait; after handlers ran, the old one is back.
void replace_mask_for_wait(Thread& thread, uint64_t mask);
void restore_mask_after_wait(Thread& thread);

// Runs what is deliverable to the running fiber. The gate calls it when `attention` is set, with
// the frame's registers as the interrupted context and its result as rax.
// What the running fiber waits for is done: there is a signal it would handle.
bool has_deliverable_signal(Thread& thread);

struct Delivered {
  bool any = false;            // a handler ran
  bool without_restart = false;  // one of them without SA_RESTART
};
Delivered deliver_signals(CallFrame& frame);

// Reads what the master handler noted on this worker. In the runtime, on a worker.
void read_noted_signals();

// A worker's ring of signals that arrived while the runtime ran on it. Written by the master handler
// on that kernel thread, read by the runtime there: they interleave but never run in parallel.
struct SignalNotes {
  // Signals between two turns of a worker; what does not fit keeps its number only.
  static constexpr uint32_t kCapacity = 32;
  SignalInfo ring[kCapacity];
  std::atomic<uint32_t> written{0};
  std::atomic<uint32_t> read{0};
  std::atomic<uint64_t> overflow{0};  // bits
  Message message;
  std::atomic<bool> posted{false};
};

// Makes the kernel thread of `worker` look at its running fiber's attention.
void ask_to_look(Worker& worker);
// The watchdog's request: a directed signal that makes the fiber on `worker` yield.
void ask_to_preempt(Worker& worker);

}  // namespace weft
