// runtime.cc - starting the workers, and the runtime's end in a fork's child (runtime.h).
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/runtime.h"

#include <sys/syscall.h>

#include <new>

#include "platform/linux/netpoller_uring.h"
#include "platform/os.h"
#include "platform/thread_pointer.h"
#include "scheduler/blocking_pool.h"
#include "scheduler/futex_table.h"
#include "scheduler/text.h"
#include "scheduler/watchdog.h"
#include "syscalls/counters.h"
#include "syscalls/kernel.h"
#include "syscalls/signals.h"

namespace weft {
namespace {

// The loop's stack: it runs netpoller, timers and `after` actions, none of them deep.
constexpr size_t kLoopStackBytes = 256 * 1024;

// Everything one worker needs, in one mapping: the record, its netpoller, its control block, its
// stack above them.
struct WorkerMemory {
  Worker worker;
  platform::UringNetpoller netpoller;
  SignalNotes notes;
  std::atomic<uint32_t> started{0};  // 1: runs, 2: could not
  // Where the master signal handler runs. The largest frame (AVX-512 and AMX) takes 11 KiB.
  alignas(64) char signal_stack[64 * 1024];
};
constexpr size_t kRecordBytes =
    (sizeof(WorkerMemory) + platform::kPageBytes - 1) / platform::kPageBytes * platform::kPageBytes;

WorkerMemory* make_worker(uintptr_t model_thread_pointer) {
  char* memory = static_cast<char*>(
      platform::map_memory(kRecordBytes + platform::kThreadBlockBytes + kLoopStackBytes));
  if (memory == nullptr) return nullptr;
  auto* made = new (memory) WorkerMemory;
  made->worker.netpoller = &made->netpoller;
  made->worker.signal_notes = &made->notes;
  made->notes.stack = made->signal_stack;
  made->notes.stack_bytes = sizeof made->signal_stack;
  made->worker.loop_thread_pointer =
      platform::make_thread_block(memory + kRecordBytes, model_thread_pointer);
  made->worker.loop_stack_top =
      memory + kRecordBytes + platform::kThreadBlockBytes + kLoopStackBytes;
  return made;
}

void run_loop(void* argument) {
  // Reached by a switch from the first fiber, whose wait may have to be published.
  Worker::finish_switch();
  static_cast<Worker*>(argument)->loop();
}

// A worker's kernel thread, from its first instruction.
void worker_main(void* argument) {
  auto& memory = *static_cast<WorkerMemory*>(argument);
  Worker& worker = memory.worker;
  worker.intercepting = 1;
  worker.kernel_tid = static_cast<int>(platform::kernel_thread_id());
  platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&worker));
  const bool started = memory.netpoller.start();
  // Release: start_runtime() reads what we wrote.
  memory.started.store(started ? 1 : 2, std::memory_order_release);
  platform::wake_word(&memory.started, 1);
  if (!started) platform::exit_kernel_thread();
  if (g_runtime.hooks.kernel_thread_started != nullptr) {
    g_runtime.hooks.kernel_thread_started(worker);
  }
  open_worker_for_signals(worker);
  worker.loop();
}

bool start_worker(WorkerMemory& memory) {
  const long tid =
      platform::start_kernel_thread(worker_main, &memory, memory.worker.loop_stack_top,
                                    memory.worker.loop_thread_pointer, nullptr);
  if (tid < 0) return false;
  uint32_t started;
  // Acquire: pairs with worker_main().
  while ((started = memory.started.load(std::memory_order_acquire)) == 0) {
    platform::wait_on_word(&memory.started, 0, platform::kForever);
  }
  return started == 1;
}

// The area that ld.so registered follows the kernel thread, and fiber 0 will not stay on it: per-CPU
// allocators would corrupt themselves. Unregistered, with cpu_id unset, they use their slow path.
void unregister_rseq() {
  if (g_runtime.rseq_area == 0) return;
  constexpr long kUnregister = 1;           // RSEQ_FLAG_UNREGISTER
  constexpr long kSignature = 0x53053053;   // RSEQ_SIG on x86
  const auto area = static_cast<long>(g_runtime.rseq_area);
  system_call(SYS_rseq, area, 32, kUnregister, kSignature);
  reinterpret_cast<int32_t*>(area)[1] = -2;  // cpu_id: RSEQ_CPU_ID_REGISTRATION_FAILED
}

// What libc told the kernel about the first thread before we were there (set_tid_address(2),
// set_robust_list(2)): from now on it is the fiber's.
void adopt_thread_addresses(Thread& thread) {
  constexpr long kGetTidAddress = 40;  // PR_GET_TID_ADDRESS
  int* address = nullptr;
  if (system_call(SYS_prctl, kGetTidAddress, address_of(&address)) == 0) {
    thread.clear_child_tid = address;
  }
  system_call(SYS_get_robust_list, 0, address_of(&thread.robust_list),
              address_of(&thread.robust_list_bytes));
}

}  // namespace

constinit Runtime g_runtime;

void set_kernel_mask(uint64_t mask) {
  system_call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, address_of(&mask), 0, 8);
}

const char* start_runtime() {
  new (&g_runtime.scheduler) Scheduler;
  g_runtime.process_id = static_cast<int>(system_call(SYS_getpid));
  const uint32_t wanted =
      g_runtime.options.workers == 0 ? platform::usable_cpus() : g_runtime.options.workers;
  const uint32_t count = wanted < Scheduler::kMaxWorkers ? wanted : Scheduler::kMaxWorkers;
  if (g_runtime.options.blocking_max != 0) set_blocking_max(g_runtime.options.blocking_max);

  const uintptr_t thread_pointer = platform::read_thread_pointer();
  WorkerMemory* first = make_worker(thread_pointer);
  if (first == nullptr) return "no memory for a worker";
  Thread* main_thread = g_runtime.main_thread;
  if (main_thread == nullptr) main_thread = adopt_main_thread(g_runtime.process_id);
  if (main_thread == nullptr) return "no memory for the thread table";
  g_runtime.main_thread = main_thread;

  // Worker 0 is this kernel thread; it goes on running fiber 0.
  Worker& worker = first->worker;
  worker.kernel_tid = g_runtime.process_id;
  if (!first->netpoller.start()) return "io_uring is refused here";
  g_runtime.scheduler.add(worker);
  platform::make_context(worker.loop_context, worker.loop_stack_top, run_loop, &worker);
  main_thread->state = FiberState::running;
  main_thread->home = &worker;
  main_thread->thread_pointer = thread_pointer;
  worker.running = main_thread;
  platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&worker));
  // From here on a signal is the runtime's: one that waited in the program's mask comes at once.
  worker.intercepting = 1;
  take_over_signals(*main_thread);
  adopt_thread_addresses(*main_thread);
  unregister_rseq();

  // All workers are the scheduler's before the first of them runs.
  WorkerMemory* others[Scheduler::kMaxWorkers] = {};
  for (uint32_t i = 1; i < count; i++) {
    others[i] = make_worker(thread_pointer);
    if (others[i] == nullptr) break;
    g_runtime.scheduler.add(others[i]->worker);
  }
  for (uint32_t i = 1; i < count && others[i] != nullptr; i++) {
    // Fewer kernel threads than asked for (RLIMIT_NPROC, memlock): those there are do the work.
    if (!start_worker(*others[i])) {
      g_runtime.scheduler.drop_from(i);
      break;
    }
  }
  if (g_runtime.hooks.kernel_thread_started != nullptr) {
    g_runtime.hooks.kernel_thread_started(worker);
  }
  start_watchdog(g_runtime.scheduler, ask_to_preempt, thread_pointer);
  g_runtime.live = true;
  return nullptr;
}

Worker* start_bound_worker() {
  WorkerMemory* memory = make_worker(current_worker()->loop_thread_pointer);
  if (memory == nullptr) return nullptr;
  g_runtime.scheduler.add_bound(memory->worker);
  return start_worker(*memory) ? &memory->worker : nullptr;
}

void forget_runtime(Thread& survivor) {
  Worker& worker = *current_worker();
  worker.intercepting = 0;
  worker.kernel_tid = static_cast<int>(system_call(SYS_gettid));
  g_runtime.live = false;
  g_runtime.process_id = worker.kernel_tid;
  g_runtime.main_thread = &survivor;
  survivor.bound = false;
  keep_only(survivor, g_runtime.process_id);
  futex_table_forget();
  blocking_pool_forget();
}

void print_stats() {
  Text<1024> text;
  text.append("weft: workers ").append_number(g_runtime.scheduler.worker_count());
  text.append(", threads born ")
      .append_unsigned(g_call_counters.threads_born.load(std::memory_order_relaxed), 10);
  uint64_t switches = 0, polls = 0, sleeps = 0, steals = 0, preemptions = 0;
  for (uint32_t i = 0; i < g_runtime.scheduler.worker_count(); i++) {
    const WorkerStats& stats = g_runtime.scheduler.worker(i).stats;
    switches += stats.switches.load(std::memory_order_relaxed);
    polls += stats.polls.load(std::memory_order_relaxed);
    sleeps += stats.sleeps.load(std::memory_order_relaxed);
    steals += stats.steals.load(std::memory_order_relaxed);
    preemptions += stats.preemptions.load(std::memory_order_relaxed);
  }
  text.append(", switches ").append_unsigned(switches, 10);
  text.append(", polls ").append_unsigned(polls, 10);
  text.append(", sleeps ").append_unsigned(sleeps, 10);
  text.append(", steals ").append_unsigned(steals, 10);
  text.append(", preemptions ").append_unsigned(preemptions, 10);
  text.append(", blocking threads now ").append_unsigned(blocking_thread_count(), 10);
  text.append(", signals ")
      .append_unsigned(g_call_counters.signals_delivered.load(std::memory_order_relaxed), 10);
  text.append("\nweft: calls");
  static constexpr const char* kNames[] = {"pass",    "complete", "emulate", "compose",
                                           "offload", "refuse",   "bind"};
  for (unsigned i = 0; i < sizeof kNames / sizeof kNames[0]; i++) {
    text.append(i == 0 ? " " : ", ").append(kNames[i]).append(" ").append_unsigned(
        g_call_counters.by_disposition[i].load(std::memory_order_relaxed), 10);
  }
  text.append(", unknown ")
      .append_unsigned(g_call_counters.unknown.load(std::memory_order_relaxed), 10)
      .append("\n");
  text.write_error();
}

}  // namespace weft
