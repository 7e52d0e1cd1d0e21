// signal_state.h - what the signal files share: the process's actions and pending signals.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "scheduler/lock.h"
#include "syscalls/signal_frame.h"
#include "syscalls/signals.h"

namespace weft {

inline constexpr int kSignalCount = 64;
inline constexpr int kSigIll = 4, kSigTrap = 5, kSigAbrt = 6, kSigBus = 7, kSigFpe = 8, kSigKill = 9,
                     kSigSegv = 11, kSigPipe = 13, kSigChld = 17, kSigCont = 18, kSigStop = 19,
                     kSigTstp = 20, kSigTtin = 21, kSigTtou = 22, kSigUrg = 23, kSigWinch = 28,
                     kSigSys = 31;
inline constexpr uint64_t kActionDefault = 0;
inline constexpr uint64_t kActionIgnore = 1;
inline constexpr uint64_t kSaNoChildStop = 1, kSaNoChildWait = 2, kSaSigInfo = 4,
                          kSaRestorer = 0x04000000, kSaOnStack = 0x08000000,
                          kSaRestart = 0x10000000, kSaNoDefer = 0x40000000,
                          kSaResetHand = 0x80000000;

// SIGKILL and SIGSTOP: never blocked, caught or ignored (signal(7)).
inline constexpr uint64_t kUncatchable =
    (uint64_t{1} << (kSigKill - 1)) | (uint64_t{1} << (kSigStop - 1));

struct SignalState {
  SpinLock lock;  // actions and what the kernel was told of them
  SignalAction actions[kSignalCount + 1] WEFT_GUARDED_BY(lock) = {};
  // Signals whose default action the kernel must not take: some fiber has blocked them. Only grows.
  std::atomic<uint64_t> claimed{0};
  SignalQueue pending;  // the process's
  // Signals that some signalfd watches (only grows), and those of them that every thread blocks:
  // they are blocked in the kernel as well. The second changes under its lock.
  SpinLock descriptors_lock;
  std::atomic<uint64_t> watched{0};
  std::atomic<uint64_t> kept_in_kernel{0};
};
extern SignalState g_signals;

// A copy of the program's action.
SignalAction action_of(int number);
void store_action(int number, const SignalAction& action);
// Tells the kernel alone.
void set_default_in_kernel(int number);

// Default actions by signal(7).
bool ignored_by_default(int number);
bool stops_by_default(int number);

// Makes the kernel's action fit the program's: default, ignore, or the master handler.
void apply_action(int number);
// Whether the master handler has this signal.
bool is_taken_over(int number);
// The master handler takes these over although their action is the default.
void claim_signals(uint64_t bits);
// The kernel's default action, now, for this process. Returns for those that stop or ignore only.
void take_default_action(int number);

// Gives a signal that came for the process to a thread that does not block it, or keeps it.
void dispatch_to_process(const SignalInfo& info);
// Tells a thread that a signal may be deliverable.
void notify_thread(Thread& thread);
// A changed mask: what it lets through is looked at on the way out; what it keeps from this thread
// goes to another.
void set_signal_mask(Thread& thread, uint64_t mask);

// Notes what the signalfds watch that were made before the runtime was there.
void find_signal_descriptors();
// A signalfd watches these from now on.
void watch_signals(uint64_t bits);
// Threads' masks, or what they wait for, changed in watched bits: decides anew what the kernel
// keeps, and has the other workers told. The caller applies the worker's own mask.
void decide_what_kernel_keeps();
// Moves waiting signals of these bits from the process's queue into the kernel's.
void hand_to_kernel(SignalQueue& queue, uint64_t bits);

// The kernel's entry for every signal taken over, and its return.
extern "C" void weft_signal_entry(int number, SignalInfo* info, void* context);
extern "C" void weft_signal_return();
// A delivery after it moved to the fiber's stack; all signals are blocked.
extern "C" void weft_deliver_frame(SignalFrame* frame, bool is_fault);

// The instruction at the context faulted. Returns if the context was changed so that it goes on, or
// if it is to fault once more for the kernel's default action.
void on_fault(Worker& worker, SignalInfo& info, UserContext& context);
// Whether the kernel raised it for an instruction of the thread.
bool is_fault(const SignalInfo& info);

// Runs one handler. `context` is what the handler sees as interrupted, `shown_mask` the mask it
// finds there; what it leaves there becomes the fiber's (sigreturn(2)).
void run_handler(Thread& thread, const SignalAction& action, SignalInfo& info,
                 UserContext& context, uint64_t shown_mask);
// What the thread would take now. A moment's truth.
uint64_t deliverable_bits(const Thread& thread);
// Delivers everything there is; on the fiber, in the runtime, signals open in the kernel.
Delivered deliver_all(Thread& thread, UserContext& context);
// Moves the delivery from the master handler's stack to one whose top is given; `context` is the
// kernel's, in its frame. The runtime is entered.
[[noreturn]] void deliver_on_stack(Worker& worker, UserContext& context, uint64_t top,
                                   bool is_fault_frame);
SignalNotes& notes_of(Worker& worker);
// Has the worker read its notes and apply its mask. Any kernel thread.
void post_notes(Worker& worker);

// A signal that makes a kernel thread of ours look at what it waits for.
void poke_kernel_thread(int kernel_tid);

// timer_create with SIGEV_THREAD_ID: which fiber a timer's signals go to. 0: none.
int timer_target(int timer_id);

}  // namespace weft
