// vector_liveness_test.cc - proves per build that libc, the loader and libgomp keep no vector
// register alive over a system call, which is why their stubs need not save any.
// Method: Zydis gives each instruction's operands; over the control flow graph of each function
// with a site, two backward passes and a forward one:
//   used       a register that some path reads before writing it (calls overwrite all: System V
//   ABI) maybe used the same, but a call may read xmm0..7 (arguments) and a return xmm0..1
//   (results) pending    a register that some path to the site wrote and nothing has read since, as
//   one that
//              waits to be an argument or a result (block copies read what they loaded at once)
// Alive = used, or maybe used and pending. A function that holds a register over its own call
// against the ABI (-fipa-ra) shows as used directly after that call; it is looked for in the whole
// object, because then the callee's system call would matter to it.
// SPDX-License-Identifier: Apache-2.0
#include <Zydis/Zydis.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "preload/patcher/elf_image.h"
#include "preload/patcher/unwind_table.h"
#include "support.h"

namespace weft::preload {
namespace {

using Registers = uint32_t;  // one bit for each of xmm/ymm/zmm 0..31
constexpr Registers kArguments = 0xff;
constexpr Registers kResults = 0x3;
// xmm0 and xmm1 after a call are its results.
constexpr Registers kNotResults = ~kResults;

Registers bit_of(ZydisRegister reg) {
  const ZydisRegisterClass kind = ZydisRegisterGetClass(reg);
  const bool vector =
      kind == ZYDIS_REGCLASS_XMM || kind == ZYDIS_REGCLASS_YMM || kind == ZYDIS_REGCLASS_ZMM;
  return vector ? Registers{1} << ZydisRegisterGetId(reg) : 0;
}

struct Step {
  uintptr_t address = 0;
  Registers reads = 0;
  Registers writes = 0;
  Registers kills = 0;  // of these: those that leave nothing of the old value
  bool call = false;
  bool exit = false;  // a return, or a jump out of the function
  bool syscall = false;
  std::vector<size_t> next;
  Registers used = 0;        // before the step
  Registers maybe_used = 0;  // before the step
  Registers pending = 0;     // before the step
};

class Function {
 public:
  Function(const ElfImage& image, const FunctionRange& range, const ZydisDecoder& decoder)
      : image_(image), range_(range) {
    decode(decoder);
    connect();
    solve();
  }
  const std::vector<Step>& steps() const { return steps_; }

  Registers alive_after(const Step& step) const {
    Registers used = 0;
    Registers maybe_used = 0;
    for (const size_t next : step.next) {
      used |= steps_[next].used;
      maybe_used |= steps_[next].maybe_used;
    }
    return used | (maybe_used & step.pending);
  }

 private:
  void decode(const ZydisDecoder& decoder) {
    for (uintptr_t at = range_.begin; at < range_.end;) {
      ZydisDecodedInstruction i;
      ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
      if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, reinterpret_cast<const void*>(at),
                                               range_.end - at, &i, operands))) {
        return;
      }
      add_step(at, i, operands);
      at += i.length;
    }
  }

  void add_step(uintptr_t at, const ZydisDecodedInstruction& i,
                const ZydisDecodedOperand* operands) {
    Step step;
    step.address = at;
    for (size_t k = 0; k < i.operand_count; ++k) {
      const ZydisDecodedOperand& operand = operands[k];
      if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        step.reads |= bit_of(operand.mem.index);  // gathers
        continue;
      }
      if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
      const Registers bit = bit_of(operand.reg.value);
      if ((operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0) step.reads |= bit;
      if ((operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) step.writes |= bit;
      if (operand.actions == ZYDIS_OPERAND_ACTION_WRITE) step.kills |= bit;
    }
    if (zeroes(i, operands)) step.kills = std::exchange(step.reads, 0);
    if (i.mnemonic == ZYDIS_MNEMONIC_VZEROALL) step.kills = 0xffff;
    step.call = i.meta.category == ZYDIS_CATEGORY_CALL;
    step.syscall = i.mnemonic == ZYDIS_MNEMONIC_SYSCALL;
    Flow flow;
    const bool relative = i.raw.imm[0].is_relative;
    flow.falls_through =
        !(i.meta.category == ZYDIS_CATEGORY_UNCOND_BR || i.meta.category == ZYDIS_CATEGORY_RET ||
          i.mnemonic == ZYDIS_MNEMONIC_UD2 || i.mnemonic == ZYDIS_MNEMONIC_HLT);
    if (relative && !step.call) {
      flow.target = at + i.length + static_cast<uintptr_t>(i.raw.imm[0].value.s);
    }
    flow.indirect = i.meta.category == ZYDIS_CATEGORY_UNCOND_BR && !relative &&
                    i.mnemonic == ZYDIS_MNEMONIC_JMP;
    step.exit = i.meta.category == ZYDIS_CATEGORY_RET;
    if (i.mnemonic == ZYDIS_MNEMONIC_LEA && operands[1].mem.base == ZYDIS_REGISTER_RIP) {
      tables_.push_back(at + i.length + static_cast<uintptr_t>(operands[1].mem.disp.value));
    }
    index_[at] = steps_.size();
    steps_.push_back(step);
    flows_.push_back(flow);
  }

  // xor of a register with itself and its like: a write, whatever was in it.
  static bool zeroes(const ZydisDecodedInstruction& i, const ZydisDecodedOperand* operands) {
    constexpr ZydisMnemonic kZeroing[] = {
        ZYDIS_MNEMONIC_PXOR,    ZYDIS_MNEMONIC_XORPS,    ZYDIS_MNEMONIC_XORPD,
        ZYDIS_MNEMONIC_VPXOR,   ZYDIS_MNEMONIC_VXORPS,   ZYDIS_MNEMONIC_VXORPD,
        ZYDIS_MNEMONIC_VPXORD,  ZYDIS_MNEMONIC_VPXORQ,   ZYDIS_MNEMONIC_PCMPEQB,
        ZYDIS_MNEMONIC_PCMPEQD, ZYDIS_MNEMONIC_VPCMPEQB, ZYDIS_MNEMONIC_VPCMPEQD};
    if (std::find(std::begin(kZeroing), std::end(kZeroing), i.mnemonic) == std::end(kZeroing)) {
      return false;
    }
    const size_t last = i.operand_count_visible - size_t{1};
    return operands[last].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           operands[last - 1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           operands[last].reg.value == operands[last - 1].reg.value;
  }

  void link(size_t from, uintptr_t target) {
    const auto found = index_.find(target);
    if (found == index_.end()) {
      steps_[from].exit = true;  // another function, or the other part of a split one
    } else {
      steps_[from].next.push_back(found->second);
    }
  }

  void connect() {
    std::set<uintptr_t> cases;
    for (const uintptr_t table : tables_) {
      for (size_t i = 0; i < 4096 && image_.readable(table + i * 4, 4); ++i) {
        int32_t offset;
        std::memcpy(&offset, reinterpret_cast<const void*>(table + i * 4), 4);
        const uintptr_t target = table + static_cast<uintptr_t>(intptr_t{offset});
        if (image_.code_segment(target, 1) == nullptr) break;
        if (index_.count(target) != 0) cases.insert(target);
      }
    }
    for (size_t i = 0; i < steps_.size(); ++i) {
      const Flow& flow = flows_[i];
      if (flow.target != 0) link(i, flow.target);
      if (flow.indirect) {
        for (const uintptr_t target : cases) link(i, target);
        steps_[i].exit = true;  // it may be a tail call as well
      }
      if (flow.falls_through && i + 1 < steps_.size()) steps_[i].next.push_back(i + 1);
      for (const size_t next : steps_[i].next) before_[next].push_back(i);
    }
  }

  void solve() {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = steps_.size(); i-- > 0;) {
        Step& step = steps_[i];
        Registers used = 0;
        Registers maybe_used = step.exit ? kResults | kArguments : 0;
        for (const size_t next : step.next) {
          used |= steps_[next].used;
          maybe_used |= steps_[next].maybe_used;
        }
        if (step.call) {
          used = 0;
          maybe_used = kArguments;
        }
        used = (used & ~step.kills) | step.reads;
        maybe_used = (maybe_used & ~step.kills) | step.reads;
        changed |= used != step.used || maybe_used != step.maybe_used;
        step.used = used;
        step.maybe_used = maybe_used;
      }
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = 0; i < steps_.size(); ++i) {
        Registers pending = 0;
        for (const size_t previous : before_[i]) {
          const Step& p = steps_[previous];
          pending |= p.call ? 0 : (p.pending & ~p.reads) | p.writes;
        }
        changed |= pending != steps_[i].pending;
        steps_[i].pending = pending;
      }
    }
  }

  struct Flow {
    uintptr_t target = 0;
    bool falls_through = true;
    bool indirect = false;
  };

  const ElfImage& image_;
  FunctionRange range_;
  std::vector<Step> steps_;
  std::vector<Flow> flows_;
  std::vector<uintptr_t> tables_;
  std::map<uintptr_t, size_t> index_;
  std::map<size_t, std::vector<size_t>> before_;
};

struct Verdict {
  size_t sites = 0;
  std::vector<std::string> alive;
  std::vector<std::string> held_over_calls;
};

Verdict examine(const ElfImage& image) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  const UnwindTable unwind(image);
  Verdict verdict;
  const auto name = [&](uintptr_t address, Registers registers) {
    char text[64];
    std::snprintf(text, sizeof text, "%lx: %08x",
                  static_cast<unsigned long>(address - image.bias()), registers);
    return std::string(text);
  };
  for (const Segment& segment : image.segments()) {
    if ((segment.flags & PF_X) == 0) continue;
    for (uintptr_t at = segment.begin; at < segment.end;) {
      FunctionRange range{};
      if (!unwind.function_at(at, range)) {
        ++at;
        continue;
      }
      const Function function(image, range, decoder);
      for (const Step& step : function.steps()) {
        if (step.syscall) {
          ++verdict.sites;
          const Registers alive = function.alive_after(step);
          if (alive != 0) verdict.alive.push_back(name(step.address, alive));
        } else if (step.call) {
          Registers held = 0;
          for (const size_t next : step.next) held |= function.steps()[next].used & kNotResults;
          if (held != 0) verdict.held_over_calls.push_back(name(step.address, held));
        }
      }
      at = range.end;
    }
  }
  return verdict;
}

}  // namespace

TEST_CASE("no vector register is alive after a system call of libc, loader and libgomp",
          "[liveness]") {
  const char* const name = GENERATE("libc.so.6", "ld-linux-x86-64.so.2", "libgomp.so.1");
  INFO(name);
  const auto object = test::load(name);
  REQUIRE(object);
  ElfImage image;
  REQUIRE(ElfImage::parse(reinterpret_cast<const void*>(object->header), SIZE_MAX, image));
  const Verdict verdict = examine(image);
  CHECK(verdict.sites == test::objdump_syscalls(object->path).size());
  for (const std::string& found : verdict.alive) UNSCOPED_INFO("alive after " << found);
  CHECK(verdict.alive.empty());
  for (const std::string& found : verdict.held_over_calls) UNSCOPED_INFO("held over " << found);
  CHECK(verdict.held_over_calls.empty());
}

TEST_CASE("the liveness pass finds a vector register that is alive", "[liveness]") {
  const test::MappedObject object(WEFT_TEST_SITES);
  REQUIRE(object.valid());
  ElfImage image;
  REQUIRE(ElfImage::parse(object.header(), object.bytes(), image));
  const Verdict verdict = examine(image);
  CHECK(verdict.sites > 10);
  REQUIRE(verdict.alive.size() == 1);
  CHECK(verdict.alive[0].find("00000200") != std::string::npos);  // xmm9
}

}  // namespace weft::preload
