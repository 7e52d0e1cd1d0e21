// user_dispatch.cc - serving and naming calls by SIGSYS (user_dispatch.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/user_dispatch.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "preload/gate.h"
#include "preload/patcher/patcher.h"
#include "scheduler/scheduler.h"
#include "scheduler/text.h"
#include "syscalls/call_table.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signal_state.h"

extern "C" {
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));
extern const char weft_dispatch_slots[] __attribute__((visibility("hidden")));
extern uint64_t weft_dispatch_resume[] __attribute__((visibility("hidden")));
// What the slots give back to the kernel after a child that shares our memory.
extern const uint64_t weft_dispatch_mask __attribute__((visibility("hidden")));
const uint64_t weft_dispatch_mask = weft::kWorkerSignalMask;
}

namespace weft::preload {
namespace {

// linux/prctl.h, and what the kernel puts into si_code.
constexpr long kPrSetSyscallUserDispatch = 59;
constexpr long kPrSysDispatchOff = 0;
constexpr long kPrSysDispatchOn = 1;
constexpr int kSysUserDispatch = 2;

constexpr uint32_t kSlots = 64;        // user_dispatch_slots.S
constexpr size_t kSlotBytes = 32;
constexpr size_t kVdsoBytesMax = 16384;
constexpr uint32_t kSites = 16384;     // open addressing; libc and ld.so together have 572

// A Site for an address that is not patched.
struct DispatchSite {
  std::atomic<uint64_t> key{0};  // the address after the instruction; 0: free
  std::atomic<bool> ready{false};
  // The inline form, in a slot; null until a call needs it.
  std::atomic<const void*> slot{nullptr};
  Site site = {};
};

struct Dispatch {
  bool audit = false;
  uintptr_t vdso = ~uintptr_t{0};  // where its ELF header lies
  DispatchSite sites[kSites] = {};
  std::atomic<uint32_t> slots_used{0};
};
constinit Dispatch g_dispatch;

// What cannot be done in a handler for the program: it makes or ends a thread or a frame.
bool belongs_to_fiber(uint64_t number) {
  return number == SYS_clone || number == SYS_clone3 || number == SYS_vfork ||
         number == SYS_fork || number == SYS_exit || number == SYS_rt_sigreturn;
}

// The calls that the gate may send back to their site.
bool needs_slot(uint64_t number) { return belongs_to_fiber(number) && number != SYS_exit; }

// Gives the site an inline form. Few addresses ever make such a call. False: no slot is left.
bool has_slot(DispatchSite& entry) {
  if (entry.slot.load(std::memory_order_acquire) != nullptr) return true;
  const uint32_t slot = g_dispatch.slots_used.fetch_add(1, std::memory_order_relaxed);
  if (slot >= kSlots) return false;
  // Two kernel threads may come here for one address: both slots lead to the same place.
  weft_dispatch_resume[slot] = reinterpret_cast<uintptr_t>(entry.site.resume);
  entry.site.inline_call = weft_dispatch_slots + slot * kSlotBytes;
  // Release: pairs with the acquire above.
  entry.slot.store(entry.site.inline_call, std::memory_order_release);
  return true;
}

// Reads one line of a file into `line`, without its end. False: nothing is left.
bool read_line(long fd, char (&line)[512]) {
  size_t length = 0;
  char c = 0;
  while (system_call(SYS_read, fd, address_of(&c), 1) == 1) {
    if (c == '\n') break;
    if (length + 1 < sizeof line) line[length++] = c;
  }
  line[length] = 0;
  return length != 0;
}

uint64_t parse_hex(const char*& text) {
  uint64_t value = 0;
  for (;; text++) {
    const char c = *text;
    if (c >= '0' && c <= '9') {
      value = value * 16 + static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = value * 16 + static_cast<uint64_t>(c - 'a' + 10);
    } else {
      return value;
    }
  }
}

// Appends the mapping that holds the address, as proc(5) has it: "begin-end rwxp offset dev inode
// path". A read a byte: this is said once for an address.
void append_place(Text<768>& line, uint64_t address) {
  const long fd = system_call(SYS_openat, AT_FDCWD, address_of("/proc/self/maps"),
                              O_RDONLY | O_CLOEXEC);
  char entry[512];
  while (fd >= 0 && read_line(fd, entry)) {
    const char* at = entry;
    const uint64_t begin = parse_hex(at);
    const uint64_t end = parse_hex(++at);
    if (address < begin || address >= end) continue;
    at += 6;  // " r-xp "
    const uint64_t offset = parse_hex(at);
    const char* path = at;
    while (*path != 0 && *path != '/' && *path != '[') path++;
    if (*path == 0) break;
    line.append(" in ").append(path).append("+").append_hex(address - begin + offset);
    system_call(SYS_close, fd);
    return;
  }
  if (fd >= 0) system_call(SYS_close, fd);
  line.append(" in memory without a file");
}

bool in_vdso(uint64_t address) {
  return address - g_dispatch.vdso < kVdsoBytesMax;
}

// Not everything outside the patched sites was missed: the vDSO's own calls ask for the time, libc's
// signal return is left as it is for unwinders, and a stub runs what belongs to its site.
void name_missed(uint64_t pc, uint64_t number) {
  if (number == SYS_rt_sigreturn || is_stub_address(pc) || in_vdso(pc)) return;
  Text<768> line;
  line.append("weft: audit: ").append(call_info(number).name).append(" (system call ");
  line.append_unsigned(number, 10).append(") is not a patched site, at ").append_hex(pc - 2);
  append_place(line, pc - 2);
  line.append("\n").write_error();
}

// The site of an address, made at its first hit. Null: the table is full.
DispatchSite* site_for(uint64_t pc, uint64_t number) {
  for (uint32_t i = 0; i < kSites; i++) {
    DispatchSite& entry = g_dispatch.sites[((pc * 0x9E3779B97F4A7C15u >> 32) + i) % kSites];
    uint64_t key = entry.key.load(std::memory_order_acquire);
    if (key == 0 && entry.key.compare_exchange_strong(key, pc, std::memory_order_acq_rel)) {
      // What code this is nobody has looked at: vector registers may live across it.
      entry.site.flags = kSiteSavesVector;
      entry.site.number = -1;
      entry.site.pc = reinterpret_cast<const void*>(pc);
      entry.site.resume = reinterpret_cast<const void*>(pc);
      // Release: pairs with the acquire below on other kernel threads.
      entry.ready.store(true, std::memory_order_release);
      if (g_dispatch.audit) name_missed(pc, number);
      return &entry;
    }
    if (key != pc) continue;
    while (!entry.ready.load(std::memory_order_acquire)) platform::cpu_relax();
    return &entry;
  }
  return nullptr;
}

struct DispatchContext {  // the head of the kernel's struct ucontext, up to what is used
  uint64_t flags, link, stack[3];
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
};

// Nothing is left to describe the place with: the kernel's answer, from here.
uint64_t answer_in_handler(const DispatchContext& context, uint64_t number) {
  if (belongs_to_fiber(number)) return static_cast<uint64_t>(-EAGAIN);
  CallFrame frame = {};
  frame.number = number;
  frame.rdi = context.rdi;
  frame.rsi = context.rsi;
  frame.rdx = context.rdx;
  frame.r10 = context.r10;
  frame.r8 = context.r8;
  frame.r9 = context.r9;
  return static_cast<uint64_t>(kernel(frame));
}

// SIGSYS, every signal blocked. The kernel has rolled the call back: rax is its number again, the
// other registers are the program's. The context is made to enter the gate as a stub does.
void on_dispatch(int signal, SignalInfo* info, void* kernel_context) {
  auto& context = *static_cast<DispatchContext*>(kernel_context);
  if (info->code != kSysUserDispatch) {
    // The program's own: a seccomp filter's trap, or somebody's kill(2).
    if (info->code > 0 && action_of(kSigSys).handler <= kActionIgnore) {
      take_default_action(kSigSys);
    }
    weft_signal_entry(signal, info, kernel_context);
    return;
  }
  // siginfo: the address at 16, the number at 24.
  const auto number = static_cast<uint32_t>(info->rest[1]);
  DispatchSite* site = site_for(context.rip, number);
  if (site == nullptr || (needs_slot(number) && !has_slot(*site))) {
    context.rax = answer_in_handler(context, number);
    return;
  }
  context.rax = number;
  context.r11 = reinterpret_cast<uintptr_t>(&site->site);
  context.rip = reinterpret_cast<uintptr_t>(weft_gate_entry);
}

// Everything but our text is dispatched while the selector says "block" (1), which is what
// `intercepting` holds when calls are intercepted.
long switch_dispatch_on(uint8_t& selector) {
  const auto begin = reinterpret_cast<uintptr_t>(__ehdr_start);
  const auto end = reinterpret_cast<uintptr_t>(etext);
  return system_call(SYS_prctl, kPrSetSyscallUserDispatch, kPrSysDispatchOn,
                     static_cast<long>(begin), static_cast<long>(end - begin),
                     address_of(&selector));
}

}  // namespace

bool user_dispatch_works() {
  static uint8_t allow = 0;
  if (switch_dispatch_on(allow) != 0) return false;
  system_call(SYS_prctl, kPrSetSyscallUserDispatch, kPrSysDispatchOff, 0, 0, 0);
  return true;
}

void prepare_user_dispatch(bool audit, uintptr_t vdso) {
  g_dispatch.audit = audit;
  g_dispatch.vdso = vdso;
  // Before the program's actions are taken over: SIGSYS is none of those that the kernel gets.
  g_runtime.keeps_sigsys = true;
}

void start_user_dispatch(Worker& worker) {
  // On every start: in the child of a fork the kernel has the program's action again.
  struct {
    uint64_t handler, flags, restorer, mask;
  } action = {reinterpret_cast<uintptr_t>(on_dispatch), kSaSigInfo | kSaRestorer | kSaNoDefer,
              reinterpret_cast<uintptr_t>(weft_signal_return), ~uint64_t{0}};
  system_call(SYS_rt_sigaction, kSigSys, address_of(&action), 0, 8);
  switch_dispatch_on(worker.intercepting);
}

}  // namespace weft::preload
