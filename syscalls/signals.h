// signals.h - signals for virtual kernel threads: whose they are, and when their handlers run.
// One master handler is the kernel's for every signal that the program handles or has blocked, and
// for SIGSEGV and SIGBUS always. It runs on whatever worker the kernel chose, on that worker's own
// signal stack, with every signal blocked:
//   the worker runs the program's code  -> a target is chosen; if it is the running fiber, the frame
//                                          moves to its stack and the handler runs at once
//   the worker runs the runtime         -> the signal is noted in the worker's ring, without a lock,
//                                          and looked at when the runtime is left or takes a turn
// Delivery to another fiber: queued there, `attention` set, its wait interrupted; the handler runs
// on its way out of the gate.
// Signals that a signalfd watches and every thread blocks are the kernel's: blocked on every worker,
// they stay pending where signalfd(2) looks (signal_descriptors.cc).
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

// At start, on worker 0: the program's actions and the alternate stack are read from the kernel, the
// handled actions taken over; the first thread gets the kernel thread's mask.
void take_over_signals(Thread& main_thread);
// On each worker's kernel thread before its first fiber: its signal stack and its mask.
void open_worker_for_signals(Worker& worker);
// In a fork's child: the kernel gets the program's own actions, the fiber's mask and its alternate
// stack back.
void return_signals(Thread& thread);
// Around a fork: nobody holds what the child needs of the actions and queues.
void lock_signals_for_fork();
void unlock_signals_after_fork();

// The mask of the workers' kernel threads at this moment, and making it that of this one.
uint64_t worker_signal_mask();
void apply_worker_mask();
// The fiber's mask for the kernel, until apply_worker_mask(); for a child or a program to inherit,
// with what is pending here and blocked.
void lend_signals_to_kernel(Thread& thread, bool with_pending);

// Sends SIGPIPE to the running fiber, whose call met a broken pipe.
void send_broken_pipe_signal();
// Sends a signal to one fiber. 0, or -EAGAIN (a real-time one without memory to queue it).
Result send_to_thread(Thread& thread, const SignalInfo& info);

// A mask for the duration of a wait; after handlers ran, the old one is back.
void replace_mask_for_wait(Thread& thread, uint64_t mask);
void restore_mask_after_wait(Thread& thread);

// What the running fiber waits for is done: there is a signal it would handle.
bool has_deliverable_signal(Thread& thread);

// The thread ends: what it was chosen for goes to another.
void leave_signals(Thread& thread);

struct Delivered {
  bool any = false;              // a handler ran
  bool without_restart = false;  // one of them without SA_RESTART
};
// Runs what is deliverable to the running fiber. The gate calls it when `attention` is set, with
// the frame's registers as the interrupted context and its result as rax.
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
  // In the mailbox while `posted`: by the master handler, or by whoever changed the workers' mask.
  Message message;
  std::atomic<bool> posted{false};
  // The master handler's stack, and what the kernel thread's mask was made last; its own.
  void* stack = nullptr;
  size_t stack_bytes = 0;
  static constexpr uint64_t kUnknownMask = ~uint64_t{0};
  uint64_t applied_mask = kUnknownMask;
};

// Makes the kernel thread of `worker` look at its running fiber's attention.
void ask_to_look(Worker& worker);
// The watchdog's request: a directed signal that makes the fiber on `worker` yield.
void ask_to_preempt(Worker& worker);

}  // namespace weft
