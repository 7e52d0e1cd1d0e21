// identity.cc - what Linux keeps per thread and programs ask back: name, affinity, scheduling
// attributes. Recorded per fiber; the workers' own are not touched. A real-time policy makes the
// fiber bound: on a kernel thread of its own it can be had.
// SPDX-License-Identifier: Apache-2.0
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sys/syscall.h>

#include <asm/prctl.h>

#include "platform/thread_pointer.h"
#include "syscalls/call_table.h"
#include "syscalls/kernel.h"
#include "syscalls/proc_files.h"
#include "syscalls/runtime.h"
#include "syscalls/thread.h"

namespace weft {
namespace {

constexpr int kRealTimeFifo = 1;    // SCHED_FIFO
constexpr int kRealTimeRound = 2;   // SCHED_RR
constexpr int kDeadline = 6;        // SCHED_DEADLINE

bool is_real_time(int policy) {
  policy &= ~0x40000000;  // SCHED_RESET_ON_FORK
  return policy == kRealTimeFifo || policy == kRealTimeRound || policy == kDeadline;
}

// The fiber that a pid argument names: 0 is the caller; null: another process, or nobody.
Thread* named_thread(uint64_t id) {
  const auto tid = static_cast<int>(id);
  return tid == 0 ? &current_thread() : find_thread(tid);
}

// The same call about the kernel thread that carries the fiber.
Result about_carrier(CallFrame frame, uint64_t CallFrame::*id) {
  frame.*id = 0;
  return kernel(frame);
}

}  // namespace

Result sys_prctl(CallFrame& frame) {
  Thread& thread = current_thread();
  switch (frame.rdi) {
    case PR_SET_NAME: {
      const auto* source = pointer<const char>(frame.rsi);
      char name[16] = {};
      for (size_t i = 0; i + 1 < sizeof name && source[i] != 0; i++) name[i] = source[i];
      name_thread(thread, name);
      return 0;
    }
    case PR_GET_NAME: {
      char name[16];
      read_thread_name(thread, name);
      auto* target = pointer<char>(frame.rsi);
      for (size_t i = 0; i < sizeof name; i++) target[i] = name[i];
      return 0;
    }
    case 59:  // PR_SET_SYSCALL_USER_DISPATCH: it would catch the runtime's own calls
      return -EINVAL;
    case PR_SET_SECCOMP:
      return bind(frame);
    default:
      return kernel(frame);
  }
}

Result sys_arch_prctl(CallFrame& frame) {
  switch (frame.rdi) {
    case ARCH_SET_FS:
      current_thread().thread_pointer = frame.rsi;
      platform::write_thread_pointer(frame.rsi);
      return 0;
    case ARCH_GET_FS: {
      auto* value = pointer<uint64_t>(frame.rsi);
      if (value == nullptr) return -EFAULT;
      *value = platform::read_thread_pointer();
      return 0;
    }
    case ARCH_SET_GS:  // GS is the worker's
      return -EPERM;
    default:
      return kernel(frame);
  }
}

Result sys_sched_setaffinity(CallFrame& frame) {
  Thread* thread = named_thread(frame.rdi);
  if (thread == nullptr) return kernel(frame);
  const auto* mask = pointer<const uint8_t>(frame.rdx);
  if (mask == nullptr) return -EFAULT;
  // The kernel ANDs with what exists and what cpusets allow; none left is EINVAL. Ask it, and take
  // the carrier's own mask back.
  uint8_t before[128] = {};
  const long bytes = system_call(SYS_sched_getaffinity, 0, sizeof before, address_of(before));
  if (bytes < 0) return bytes;
  const Result tried = about_carrier(frame, &CallFrame::rdi);
  if (tried < 0) return tried;
  auto* recorded = reinterpret_cast<uint8_t*>(thread->affinity);
  const long effective =
      system_call(SYS_sched_getaffinity, 0, sizeof thread->affinity, address_of(recorded));
  system_call(SYS_sched_setaffinity, 0, bytes, address_of(before));
  thread->affinity_set = effective > 0;
  return 0;
}

Result sys_sched_getaffinity(CallFrame& frame) {
  Thread* thread = named_thread(frame.rdi);
  if (thread == nullptr) return kernel(frame);
  const Result result = about_carrier(frame, &CallFrame::rdi);
  if (result > 0 && thread->affinity_set) {
    auto* mask = pointer<uint8_t>(frame.rdx);
    const auto* recorded = reinterpret_cast<const uint8_t*>(thread->affinity);
    for (long i = 0; i < result; i++) {
      mask[i] = static_cast<size_t>(i) < sizeof thread->affinity ? recorded[i] : uint8_t{0};
    }
  }
  return result;
}

namespace {

Result set_policy(CallFrame& frame, Thread& thread, int policy, int priority) {
  if (is_real_time(policy)) {
    if (&thread != &current_thread()) return -EPERM;
    bind(frame);  // the kernel's own answer follows below, on a thread of its own
    const Result result = about_carrier(frame, &CallFrame::rdi);
    if (result < 0) return result;
  } else if (priority != 0) {
    return -EINVAL;  // sched_setscheduler(2): the others have priority 0 only
  } else if (thread.bound && &thread == &current_thread()) {
    const Result result = about_carrier(frame, &CallFrame::rdi);
    if (result < 0) return result;
  }
  thread.policy = policy & ~0x40000000;
  thread.priority = priority;
  return 0;
}

}  // namespace

Result sys_sched_setscheduler(CallFrame& frame) {
  Thread* thread = named_thread(frame.rdi);
  if (thread == nullptr) return kernel(frame);
  const auto* parameter = pointer<const int>(frame.rdx);
  if (parameter == nullptr) return -EINVAL;
  return set_policy(frame, *thread, static_cast<int>(frame.rsi), *parameter);
}

Result sys_sched_setparam(CallFrame& frame) {
  Thread* thread = named_thread(frame.rdi);
  if (thread == nullptr) return kernel(frame);
  const auto* parameter = pointer<const int>(frame.rsi);
  if (parameter == nullptr) return -EINVAL;
  return set_policy(frame, *thread, thread->policy, *parameter);
}

Result sys_sched_getscheduler(CallFrame& frame) {
  Thread* thread = named_thread(frame.rdi);
  return thread == nullptr ? kernel(frame) : thread->policy;
}

Result sys_sched_getparam(CallFrame& frame) {
  Thread* thread = named_thread(frame.rdi);
  if (thread == nullptr) return kernel(frame);
  auto* parameter = pointer<int>(frame.rsi);
  if (parameter == nullptr) return -EINVAL;
  *parameter = thread->priority;
  return 0;
}

namespace {

struct SchedAttributes {  // struct sched_attr, its first version
  uint32_t bytes;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

}  // namespace

Result sys_sched_setattr(CallFrame& frame) {
  Thread* thread = named_thread(frame.rdi);
  if (thread == nullptr) return kernel(frame);
  const auto* attributes = pointer<const SchedAttributes>(frame.rsi);
  if (attributes == nullptr) return -EINVAL;
  const Result result = set_policy(frame, *thread, static_cast<int>(attributes->policy),
                                   static_cast<int>(attributes->priority));
  if (result == 0) thread->nice = attributes->nice;
  return result;
}

Result sys_sched_getattr(CallFrame& frame) {
  Thread* thread = named_thread(frame.rdi);
  if (thread == nullptr) return kernel(frame);
  const Result result = about_carrier(frame, &CallFrame::rdi);
  if (result < 0) return result;
  auto* attributes = pointer<SchedAttributes>(frame.rsi);
  attributes->policy = static_cast<uint32_t>(thread->policy);
  attributes->priority = static_cast<uint32_t>(thread->priority);
  attributes->nice = thread->nice;
  return result;
}

Result sys_setpriority(CallFrame& frame) {
  constexpr uint64_t kProcess = 0;  // PRIO_PROCESS: a thread, on Linux (setpriority(2))
  Thread* thread = frame.rdi == kProcess ? named_thread(frame.rsi) : nullptr;
  if (thread == nullptr) return kernel(frame);
  if (thread == g_runtime.main_thread || thread->bound) return kernel(frame);
  auto nice = static_cast<int>(frame.rdx);
  if (nice < -20) nice = -20;
  if (nice > 19) nice = 19;
  thread->nice = nice;
  return 0;
}

Result sys_getpriority(CallFrame& frame) {
  constexpr uint64_t kProcess = 0;
  Thread* thread = frame.rdi == kProcess ? named_thread(frame.rsi) : nullptr;
  if (thread == nullptr || thread == g_runtime.main_thread || thread->bound) return kernel(frame);
  return 20 - thread->nice;  // the kernel's form: 1 to 40 (getpriority(2))
}

}  // namespace weft
