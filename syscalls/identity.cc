// identity.cc - what Linux keeps per thread and programs ask back: name, affinity, scheduling
// attributes. Recorded per fiber; the workers' own are not touched. A real-time policy makes the
// fiber bound: on a kernel thread of its own it can be had.
// SPDX-License-Identifier: Apache-2.0
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sys/resource.h>
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

constexpr int kOther = 0;           // SCHED_OTHER
constexpr int kBatch = 3;           // SCHED_BATCH
constexpr int kIdle = 5;            // SCHED_IDLE
constexpr int kRealTimeFifo = 1;    // SCHED_FIFO
constexpr int kRealTimeRound = 2;   // SCHED_RR
constexpr int kDeadline = 6;        // SCHED_DEADLINE

int without_reset(int policy) { return policy & ~0x40000000; }  // SCHED_RESET_ON_FORK

bool is_real_time(int policy) {
  policy = without_reset(policy);
  return policy == kRealTimeFifo || policy == kRealTimeRound || policy == kDeadline;
}

bool is_fair(int policy) {
  policy = without_reset(policy);
  return policy == kOther || policy == kBatch || policy == kIdle;
}

int clamped_nice(int nice) { return nice < -20 ? -20 : nice > 19 ? 19 : nice; }

// setpriority(2), "EACCES": a lower value takes RLIMIT_NICE or CAP_SYS_NICE.
bool may_have_nice(const Thread& thread, int nice) {
  if (nice >= thread.nice) return true;
  rlimit limit = {};
  system_call(SYS_prlimit64, 0, RLIMIT_NICE, 0, address_of(&limit));
  if (static_cast<uint64_t>(20 - nice) <= limit.rlim_cur) return true;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  system_call(SYS_capget, address_of(&header), address_of(data));
  return (data[0].effective & (1u << CAP_SYS_NICE)) != 0;
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
    case PR_SET_NO_NEW_PRIVS:  // a filter wants it on the same kernel thread, and no other has it
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
  const bool takes_priority = is_real_time(policy) && without_reset(policy) != kDeadline;
  if (takes_priority && (priority < 1 || priority > 99)) return -EINVAL;
  if (!is_fair(policy) && !is_real_time(policy)) return -EINVAL;
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
  thread.policy = without_reset(policy);
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
  constexpr uint64_t kKnownFlags = 0x7f;  // SCHED_FLAG_ALL
  constexpr uint64_t kKeepPolicy = 0x08, kKeepParameters = 0x10;
  if (attributes == nullptr || frame.rdx != 0) return -EINVAL;
  // sched_setattr(2), "E2BIG": the kernel says so and writes the size that it expects.
  if (attributes->bytes != 0 && attributes->bytes < sizeof *attributes) return kernel(frame);
  if ((attributes->flags & ~kKnownFlags) != 0) return -EINVAL;
  const bool keeps = (attributes->flags & kKeepParameters) != 0;
  const int policy = (attributes->flags & kKeepPolicy) != 0 ? thread->policy
                                                            : static_cast<int>(attributes->policy);
  const int priority = keeps ? thread->priority : static_cast<int>(attributes->priority);
  const bool sets_nice = is_fair(policy) && without_reset(policy) != kIdle && !keeps;
  const int nice = clamped_nice(attributes->nice);
  if (sets_nice && !may_have_nice(*thread, nice)) return -EPERM;
  const Result result = set_policy(frame, *thread, policy, priority);
  if (result == 0 && sets_nice) thread->nice = nice;
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

namespace {

// The kernel thread whose nice value is this thread's own; 0: none, the value is recorded only.
// The first thread's is the process's, as others see it, whichever worker carries it now.
int nice_carrier(const Thread& thread) {
  if (thread.bound && thread.home != nullptr) return thread.home->kernel_tid;
  return &thread == g_runtime.main_thread ? g_runtime.process_id : 0;
}

}  // namespace

Result sys_setpriority(CallFrame& frame) {
  constexpr uint64_t kProcess = 0;  // PRIO_PROCESS: a thread, on Linux (setpriority(2))
  Thread* thread = frame.rdi == kProcess ? named_thread(frame.rsi) : nullptr;
  if (thread == nullptr) return kernel(frame);
  const int nice = clamped_nice(static_cast<int>(frame.rdx));
  if (const int carrier = nice_carrier(*thread); carrier != 0) {
    frame.rsi = static_cast<uint64_t>(carrier);
    const Result result = kernel(frame);
    if (result < 0) return result;
  } else if (!may_have_nice(*thread, nice)) {
    return -EACCES;
  }
  thread->nice = nice;
  return 0;
}

Result sys_getpriority(CallFrame& frame) {
  constexpr uint64_t kProcess = 0;
  Thread* thread = frame.rdi == kProcess ? named_thread(frame.rsi) : nullptr;
  if (thread == nullptr) return kernel(frame);
  if (const int carrier = nice_carrier(*thread); carrier != 0) {
    frame.rsi = static_cast<uint64_t>(carrier);
    return kernel(frame);
  }
  return 20 - thread->nice;  // the kernel's form: 1 to 40 (getpriority(2))
}

}  // namespace weft
