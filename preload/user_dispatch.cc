// user_dispatch.cc - serving and naming calls by SIGSYS (user_dispatch.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/user_dispatch.h"

#include <sys/syscall.h>

#include "preload/gate.h"
#include "preload/patcher/patcher.h"
#include "scheduler/scheduler.h"
#include "scheduler/text.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signal_state.h"

extern "C" {
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));
extern const char weft_dispatch_slots[] __attribute__((visibility("hidden")));
extern uint64_t weft_dispatch_resume[] __attribute__((visibility("hidden")));
}

namespace weft::preload {
namespace {

constexpr long kPrSetSyscallUserDispatch = 59;
constexpr long kPrSysDispatchOn = 1;
constexpr uint32_t kSlots = 64;        // user_dispatch_slots.S
constexpr size_t kSlotBytes = 32;
constexpr uint32_t kSites = 4096;      // open addressing; libc alone has 526

// A Site for an address that is not patched. `site.pc` is published last.
struct DispatchSite {
  std::atomic<uint64_t> key{0};  // the address after the instruction; 0: free
  std::atomic<bool> ready{false};
  Site site = {};
};

struct Dispatch {
  bool audit = false;
  DispatchSite sites[kSites] = {};
  std::atomic<uint32_t> slots_used{0};
};
constinit Dispatch g_dispatch;

// The inline form needs a slot of its own; only clone, vfork and sigreturn use it, from few places.
const void* take_slot(uint64_t resume) {
  const uint32_t slot = g_dispatch.slots_used.fetch_add(1, std::memory_order_relaxed);
  if (slot >= kSlots) return nullptr;
  weft_dispatch_resume[slot] = resume;
  return weft_dispatch_slots + slot * kSlotBytes;
}

bool needs_slot(uint64_t number) {
  return number == SYS_clone || number == SYS_clone3 || number == SYS_vfork ||
         number == SYS_rt_sigreturn;
}

void name_hit(uint64_t pc, uint64_t number) {
  Text<384> line;
  line.append("weft: audit: system call ").append_unsigned(number, 10).append(" outside every ");
  const PatchedImage* image = patched_images();
  while (image != nullptr && (pc < image->low || pc >= image->high)) image = image->next;
  if (image == nullptr) {
    line.append("known object, at ").append_hex(pc - 2).append("\n");
  } else {
    line.append("known site: ").append(image->name).append("+").append_hex(pc - 2 - image->low);
    line.append("\n");
  }
  line.write_error();
}

// The site of an address, made at its first hit. Null: the table is full.
const Site* site_for(uint64_t pc, uint64_t number) {
  for (uint32_t i = 0; i < kSites; i++) {
    DispatchSite& entry = g_dispatch.sites[(pc * 0x9E3779B97F4A7C15u + i) % kSites];
    uint64_t key = entry.key.load(std::memory_order_acquire);
    if (key == 0 && entry.key.compare_exchange_strong(key, pc, std::memory_order_acq_rel)) {
      // The program's registers are whole after sigreturn, so vectors must be kept like anywhere.
      entry.site.flags = kSiteSavesVector;
      entry.site.number = -1;
      entry.site.pc = reinterpret_cast<const void*>(pc);
      entry.site.resume = reinterpret_cast<const void*>(pc);
      entry.site.inline_call = needs_slot(number) ? take_slot(pc) : nullptr;
      // Release: pairs with the acquire below on other kernel threads.
      entry.ready.store(true, std::memory_order_release);
      if (g_dispatch.audit) name_hit(pc, number);
      return &entry.site;
    }
    if (key != pc) continue;
    while (!entry.ready.load(std::memory_order_acquire)) platform::cpu_relax();
    return &entry.site;
  }
  return nullptr;
}

struct DispatchContext {  // the head of the kernel's struct ucontext, up to what is used
  uint64_t flags, link, stack[3];
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
};

// SIGSYS, every signal blocked. rax is the call's number (the kernel rolled the call back).
void on_dispatch(int, SignalInfo* info, void* kernel_context) {
  auto& context = *static_cast<DispatchContext*>(kernel_context);
  const auto number = static_cast<uint32_t>(info->rest[1]);
  const Site* site = site_for(context.rip, number);
  if (site == nullptr || (needs_slot(number) && site->inline_call == nullptr)) {
    // Nothing left to describe the place with: do the call as it is. Clones cannot come here.
    CallFrame frame = {};
    frame.number = number;
    frame.rdi = context.rdi;
    frame.rsi = context.rsi;
    frame.rdx = context.rdx;
    frame.r10 = context.r10;
    frame.r8 = context.r8;
    frame.r9 = context.r9;
    context.rax = static_cast<uint64_t>(kernel(frame));
    return;
  }
  context.rax = number;
  context.r11 = reinterpret_cast<uintptr_t>(site);
  context.rip = reinterpret_cast<uintptr_t>(weft_gate_entry);
}

}  // namespace

void prepare_user_dispatch(bool audit) {
  g_dispatch.audit = audit;
  struct {
    uint64_t handler, flags, restorer, mask;
  } action = {reinterpret_cast<uintptr_t>(on_dispatch), kSaSigInfo | kSaRestorer | kSaNoDefer,
              reinterpret_cast<uintptr_t>(weft_signal_return), ~uint64_t{0}};
  system_call(SYS_rt_sigaction, kSigSys, address_of(&action), 0, 8);
  g_runtime.keeps_sigsys = true;
}

void start_user_dispatch(Worker& worker) {
  // Everything but our text is dispatched while the selector says "block" (1), which is what
  // `intercepting` holds when calls are intercepted.
  const auto begin = reinterpret_cast<uintptr_t>(__ehdr_start);
  const auto end = reinterpret_cast<uintptr_t>(etext);
  system_call(SYS_prctl, kPrSetSyscallUserDispatch, kPrSysDispatchOn, static_cast<long>(begin),
              static_cast<long>(end - begin), address_of(&worker.intercepting));
}

}  // namespace weft::preload
