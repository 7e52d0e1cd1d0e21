// signal_state.h - what the signal files share: the process's actions and pending signals.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "scheduler/lock.h"
#include "syscalls/signals.h"

namespace weft {

inline constexpr int kSignalCount = 64;
inline constexpr int kSigAbrt = 6, kSigBus = 7, kSigFpe = 8, kSigKill = 9, kSigSegv = 11,
                     kSigPipe = 13, kSigChld = 17, kSigCont = 18, kSigStop = 19, kSigTstp = 20,
                     kSigTtin = 21, kSigTtou = 22, kSigUrg = 23, kSigWinch = 28, kSigIll = 4,
                     kSigTrap = 5, kSigSys = 31;
inline constexpr uint64_t kActionDefault = 0;
inline constexpr uint64_t kActionIgnore = 1;
inline constexpr uint64_t kSaNoChildStop = 1, kSaNoChildWait = 2, kSaSigInfo = 4,
                          kSaRestorer = 0x04000000, kSaOnStack = 0x08000000,
                          kSaRestart = 0x10000000, kSaNoDefer = 0x40000000,
                          kSaResetHand = 0x80000000;

struct SignalState {
  SpinLock lock;  // actions and what the kernel was told of them
  SignalAction actions[kSignalCount + 1] WEFT_GUARDED_BY(lock) = {};
  // Signals whose default action the kernel must not take: some fiber has blocked them. Only grows.
  std::atomic<uint64_t> claimed{0};
  SignalQueue pending;  // the process's
};
extern SignalState g_signals;

// A copy of the program's action.
SignalAction action_of(int number);
void store_action(int number, const SignalAction& action);

// Default actions by signal(7).
bool ignored_by_default(int number);
bool stops_by_default(int number);

// Makes the kernel's action fit the program's: default, ignore, or the master handler.
void apply_action(int number);
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

// The kernel's entry for every signal taken over, and its return; see signal_entry.cc.
extern "C" void weft_signal_entry(int number, SignalInfo* info, void* context);
extern "C" void weft_signal_return();

// timer_create with SIGEV_THREAD_ID: which fiber a timer's signals go to. 0: none.
int timer_target(int timer_id);

}  // namespace weft
