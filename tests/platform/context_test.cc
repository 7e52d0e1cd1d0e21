// context_test.cc - platform/context.h: what a switch keeps, what is each context's own.
// SPDX-License-Identifier: Apache-2.0
#include "platform/context.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cfenv>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "platform/os.h"
#include "platform/thread_pointer.h"

extern "C" {
void weft_test_registers_kept(weft::platform::Context* from, weft::platform::Context* to,
                              const uint64_t* in, uint64_t* out);
using VectorSave = void (*)(void*);
using VectorLoad = void (*)(const void*);
void weft_test_vectors_sse(const void* in, void* out, void* area, VectorSave, VectorLoad);
void weft_test_vectors_avx(const void* in, void* out, void* area, VectorSave, VectorLoad);
}

namespace weft::platform_test {
namespace {

using platform::Context;

// A context with its own stack, and the way back from it.
class Stack {
 public:
  static constexpr size_t kBytes = 128 * 1024;

  Stack(void (*entry)(void*), void* argument) : memory_(platform::map_memory(kBytes)) {
    platform::make_context(inside, static_cast<char*>(memory_) + kBytes, entry, argument);
  }
  ~Stack() { platform::unmap_memory(memory_, kBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  void enter(uintptr_t thread_pointer = 0) {
    weft_context_switch(&outside, &inside, thread_pointer);
  }
  void leave(uintptr_t thread_pointer = 0) {
    weft_context_switch(&inside, &outside, thread_pointer);
  }
  bool contains(const void* address) const {
    return address >= memory_ && address < static_cast<char*>(memory_) + kBytes;
  }

  Context inside;
  Context outside;

 private:
  void* memory_;
};

uint32_t read_mxcsr() {
  uint32_t value;
  asm volatile("stmxcsr %0" : "=m"(value));
  return value & ~uint32_t{0x3F};  // without the exception flags, which any division may set
}

uint16_t read_x87_control() {
  uint16_t value;
  asm volatile("fnstcw %0" : "=m"(value));
  return value;
}

struct RoundingProbe {
  Stack* stack = nullptr;
  int set_to = 0;
  std::array<int, 2> seen = {};
  std::array<uint32_t, 2> mxcsr = {};
  std::array<uint16_t, 2> x87 = {};
};

void rounding_entry(void* argument) {
  auto& probe = *static_cast<RoundingProbe*>(argument);
  probe.seen[0] = std::fegetround();
  std::fesetround(probe.set_to);
  for (;;) {
    probe.stack->leave();
    probe.seen[1] = std::fegetround();
    probe.mxcsr[1] = read_mxcsr();
    probe.x87[1] = read_x87_control();
  }
}

struct PointerProbe {
  Stack* stack = nullptr;
  uintptr_t home = 0;
  uintptr_t seen = 0;
};

// Runs with a thread pointer under which no thread-local variable exists.
[[gnu::noinline]] void pointer_entry(void* argument) {
  auto& probe = *static_cast<PointerProbe*>(argument);
  for (;;) {
    probe.seen = platform::read_thread_pointer();
    probe.stack->leave(probe.home);
  }
}

}  // namespace

TEST_CASE("context: runs on its own stack, aligned as the ABI wants, with its argument",
          "[context]") {
  struct Probe {
    Stack* stack = nullptr;
    const void* local = nullptr;
    const void* frame = nullptr;
  };
  Probe probe;
  Stack stack(
      [](void* argument) {
        auto& own = *static_cast<Probe*>(argument);
        char local = 0;
        own.local = &local;
        own.frame = __builtin_frame_address(0);
        for (;;) own.stack->leave();
      },
      &probe);
  probe.stack = &stack;
  stack.enter();
  REQUIRE(stack.contains(probe.local));
  // The frame address is rsp at entry minus 8: 16-byte aligned.
  REQUIRE(reinterpret_cast<uintptr_t>(probe.frame) % 16 == 0);
}

TEST_CASE("context: ten million switches arrive one by one", "[context]") {
  struct Probe {
    Stack* stack = nullptr;
    uint64_t count = 0;
  };
  Probe probe;
  Stack stack(
      [](void* argument) {
        auto& own = *static_cast<Probe*>(argument);
        for (;;) {
          own.count++;
          own.stack->leave();
        }
      },
      &probe);
  probe.stack = &stack;
  // In and out: two switches a round.
  for (uint64_t i = 1; i <= 5'000'000; i++) {
    stack.enter();
    if (probe.count != i) FAIL("round " << i << " was counted as " << probe.count);
  }
}

TEST_CASE("context: callee-saved registers are kept on both sides", "[context]") {
  struct Probe {
    Stack* stack = nullptr;
    std::array<uint64_t, 6> in = {11, 12, 13, 14, 15, 16};
    std::array<uint64_t, 6> out = {};
  };
  Probe probe;
  Stack stack(
      [](void* argument) {
        auto& own = *static_cast<Probe*>(argument);
        for (;;) {
          weft_test_registers_kept(&own.stack->inside, &own.stack->outside, own.in.data(),
                                   own.out.data());
        }
      },
      &probe);
  probe.stack = &stack;
  for (uint64_t round = 1; round <= 100; round++) {
    const std::array<uint64_t, 6> in = {round, ~round, round << 32, round * 3, round ^ 0xF0, 7};
    std::array<uint64_t, 6> out = {};
    probe.out = {};
    weft_test_registers_kept(&stack.outside, &stack.inside, in.data(), out.data());
    REQUIRE(out == in);
    if (round > 1) REQUIRE(probe.out == probe.in);
  }
}

TEST_CASE("context: the rounding mode is each context's own", "[context]") {
  const int home = std::fegetround();
  const uint32_t home_mxcsr = read_mxcsr();
  const uint16_t home_x87 = read_x87_control();
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST}) {
    RoundingProbe probe;
    probe.set_to = mode;
    Stack stack(rounding_entry, &probe);
    probe.stack = &stack;
    stack.enter();
    // A new context starts with its maker's mode.
    REQUIRE(probe.seen[0] == home);
    REQUIRE(std::fegetround() == home);
    for (int i = 0; i < 3; i++) {
      probe.seen[1] = -1;
      stack.enter();
      REQUIRE(probe.seen[1] == mode);
      REQUIRE(std::fegetround() == home);
      REQUIRE(read_mxcsr() == home_mxcsr);
      REQUIRE(read_x87_control() == home_x87);
    }
    // Bits 13-14 of mxcsr and 10-11 of the x87 control word hold the mode.
    REQUIRE(((probe.mxcsr[1] >> 13) & 3) == static_cast<unsigned>(mode) >> 10);
    REQUIRE((probe.x87[1] & 0xC00) == mode);
  }
}

TEST_CASE("context: each of the two control words is compared for itself", "[context]") {
  // Only the x87 precision differs, then only mxcsr's flush-to-zero: both must be switched.
  struct Probe {
    Stack* stack = nullptr;
    uint32_t mxcsr = 0;
    uint16_t x87 = 0;
  };
  Probe probe;
  Stack stack(
      [](void* argument) {
        auto& own = *static_cast<Probe*>(argument);
        for (;;) {
          own.mxcsr = read_mxcsr();
          own.x87 = read_x87_control();
          own.stack->leave();
        }
      },
      &probe);
  probe.stack = &stack;
  stack.enter();
  const uint32_t mxcsr = probe.mxcsr;
  const uint16_t x87 = probe.x87;
  uint16_t single = static_cast<uint16_t>(x87 & ~0x300);
  asm volatile("fldcw %0" : : "m"(single));
  stack.enter();
  const uint16_t kept_x87 = read_x87_control();
  asm volatile("fldcw %0" : : "m"(x87));
  REQUIRE(probe.x87 == x87);
  REQUIRE(kept_x87 == single);
  const uint32_t flush = mxcsr | 0x8000;
  asm volatile("ldmxcsr %0" : : "m"(flush));
  stack.enter();
  const uint32_t kept_mxcsr = read_mxcsr();
  asm volatile("ldmxcsr %0" : : "m"(mxcsr));
  REQUIRE(probe.mxcsr == mxcsr);
  REQUIRE(kept_mxcsr == flush);
}

TEST_CASE("context: installs the thread pointer that it is given", "[context]") {
  void* memory = platform::map_memory(platform::kThreadBlockBytes);
  PointerProbe probe;
  probe.home = platform::read_thread_pointer();
  const uintptr_t other = platform::make_thread_block(memory, probe.home);
  Stack stack(pointer_entry, &probe);
  probe.stack = &stack;
  stack.enter(other);
  REQUIRE(probe.seen == other);
  REQUIRE(platform::read_thread_pointer() == probe.home);
  // Zero leaves it as it is.
  stack.enter(0);
  REQUIRE(probe.seen == probe.home);
  platform::unmap_memory(memory, platform::kThreadBlockBytes);
}

TEST_CASE("context: vector state is saved and loaded whole", "[context]") {
  const size_t bytes = platform::vector_state_bytes();
  REQUIRE(bytes >= 576);  // the legacy area and the header of XSAVE
  std::unique_ptr<void, decltype(&std::free)> area(std::aligned_alloc(64, (bytes + 63) / 64 * 64),
                                                   &std::free);
  REQUIRE(area != nullptr);
  std::vector<unsigned char> in(16 * 32);
  for (size_t i = 0; i < in.size(); i++) in[i] = static_cast<unsigned char>(i * 7 + 1);
  std::vector<unsigned char> out(in.size());
  weft_test_vectors_sse(in.data(), out.data(), area.get(), platform::save_vector_state,
                        platform::load_vector_state);
  REQUIRE(std::equal(in.begin(), in.begin() + 16 * 16, out.begin()));
  if (__builtin_cpu_supports("avx")) {
    std::fill(out.begin(), out.end(), static_cast<unsigned char>(0));
    weft_test_vectors_avx(in.data(), out.data(), area.get(), platform::save_vector_state,
                          platform::load_vector_state);
    REQUIRE(in == out);
  }
}

}  // namespace weft::platform_test
