// context.cc - made contexts and vector state on x86-64; the switch itself is context_switch.S.
// SPDX-License-Identifier: Apache-2.0
#include "platform/context.h"

#include <cpuid.h>

#include "platform/thread_pointer.h"

extern "C" void weft_context_start();

namespace weft::platform {
namespace {

// What weft_context_switch pops, lowest address first.
struct SavedRegisters {
  uint32_t mxcsr;
  uint16_t x87_control;
  uint16_t padding;
  uint64_t r15, r14, r13, r12, rbx, rbp;
  void (*return_address)();
};
static_assert(sizeof(SavedRegisters) == 64);

// AMX tile data (components 17 and 18) is 8 KiB that no compiler keeps live across a system call.
constexpr uint64_t kAmxComponents = (uint64_t{1} << 17) | (uint64_t{1} << 18);

uint64_t saved_components() {
  uint32_t low;
  uint32_t high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return ((uint64_t{high} << 32) | low) & ~kAmxComponents;
}

}  // namespace

void make_context(Context& context, void* stack_top, void (*entry)(void*), void* argument) {
  // The ABI wants rsp + 8 to be 16-byte aligned at a function's entry; weft_context_start's call
  // gives that when the pops leave rsp at the 16-byte aligned top.
  auto* saved = reinterpret_cast<SavedRegisters*>(static_cast<char*>(stack_top) -
                                                  sizeof(SavedRegisters));
  *saved = SavedRegisters{};
  asm volatile("stmxcsr %0" : "=m"(saved->mxcsr));
  asm volatile("fnstcw %0" : "=m"(saved->x87_control));
  saved->r12 = reinterpret_cast<uintptr_t>(entry);
  saved->r13 = reinterpret_cast<uintptr_t>(argument);
  saved->return_address = weft_context_start;
  context.stack_pointer = saved;
}

size_t vector_state_bytes() {
  // CPUID leaf 0xD, sub-leaf 0, EBX: bytes that XSAVE needs for what XCR0 enables now. The AMX part
  // lies last, so the size is generous when it is masked out.
  uint32_t a, b, c, d;
  __cpuid_count(0xD, 0, a, b, c, d);
  return b;
}

void save_vector_state(void* area) {
  const uint64_t mask = saved_components();
  // The header (bytes 512-575) must be zero before the first XSAVE into fresh memory.
  auto* header = reinterpret_cast<uint64_t*>(static_cast<char*>(area) + 512);
  for (int i = 0; i < 8; i++) header[i] = 0;
  asm volatile("xsave64 (%0)"
               :
               : "r"(area), "a"(static_cast<uint32_t>(mask)), "d"(static_cast<uint32_t>(mask >> 32))
               : "memory");
}

void load_vector_state(const void* area) {
  const uint64_t mask = saved_components();
  asm volatile("xrstor64 (%0)"
               :
               : "r"(area), "a"(static_cast<uint32_t>(mask)), "d"(static_cast<uint32_t>(mask >> 32))
               : "memory");
}

bool has_fast_thread_pointer(uint64_t hwcap2) {
  // Documentation/arch/x86/x86_64/fsgs.rst: HWCAP2_FSGSBASE is bit 1.
  return (hwcap2 & 2) != 0;
}

}  // namespace weft::platform
