// decoder_test.cc - the decoder against known encodings, against Zydis, and at the edge of memory.
// Where Zydis accepts an instruction, ours must give the same length, branch target and place of
// the RIP displacement. What Zydis refuses may be accepted: no compiler writes it.
// WEFT_DECODER_ALL=1 compares every shared object of the system instead of a sample.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/decoder.h"

#include <Zydis/Zydis.h>
#include <sys/mman.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "support.h"

namespace weft::preload {
namespace {

using test::CodeFile;
using test::CodeSection;

class Reference {
 public:
  Reference() { ZydisDecoderInit(&decoder_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64); }
  bool decode(const uint8_t* code, size_t available, ZydisDecodedInstruction& out) const {
    return ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder_, nullptr, code, available, &out));
  }

 private:
  ZydisDecoder decoder_;
};

bool is_branch(const ZydisDecodedInstruction& i) {
  return i.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || i.mnemonic == ZYDIS_MNEMONIC_XBEGIN;
}

// Empty if both agree.
std::string difference(const Instruction& ours, const ZydisDecodedInstruction& theirs) {
  if (ours.length != theirs.length) {
    return "length " + std::to_string(ours.length) + ", expected " + std::to_string(theirs.length);
  }
  const bool relative = is_branch(theirs) && theirs.raw.imm[0].is_relative;
  if (ours.has_target != relative) return "branch or not";
  if (relative && ours.target_offset != theirs.raw.imm[0].value.s) return "branch target";
  const bool rip = (theirs.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0 && theirs.raw.modrm.mod == 0 &&
                   theirs.raw.modrm.rm == 5 && theirs.raw.disp.size == 32;
  if (ours.rip_relative() != rip) return "RIP-relative or not";
  if (rip && ours.displacement_at != theirs.raw.disp.offset) return "place of the displacement";
  // XABORT outside a transaction does nothing.
  const bool ends = (theirs.meta.category == ZYDIS_CATEGORY_UNCOND_BR &&
                     theirs.mnemonic != ZYDIS_MNEMONIC_XABORT) ||
                    theirs.meta.category == ZYDIS_CATEGORY_RET;
  if (ends && !ours.ends_flow()) return "end of the flow";
  const bool call = theirs.meta.category == ZYDIS_CATEGORY_CALL;
  const bool our_call =
      ours.kind == InstructionKind::call || ours.kind == InstructionKind::indirect_call;
  if (call != our_call) return "call or not";
  if ((theirs.mnemonic == ZYDIS_MNEMONIC_SYSCALL) !=
      (ours.kind == InstructionKind::system_call && ours.opcode == 5)) {
    return "system call or not";
  }
  return {};
}

std::string hex(const uint8_t* code, size_t count) {
  std::string text;
  char byte[4];
  for (size_t i = 0; i < count; ++i) {
    std::snprintf(byte, sizeof byte, "%02x ", code[i]);
    text += byte;
  }
  return text;
}

struct Comparison {
  uint64_t instructions = 0;
  uint64_t vector_instructions = 0;
  std::vector<std::string> differences;
};

// Every instruction from `begin` on, until Zydis meets something that is not code.
void compare_run(const CodeSection& section, size_t begin, size_t end, const Reference& reference,
                 Comparison& result) {
  for (size_t at = begin; at < end && result.differences.size() < 20;) {
    const uint8_t* const code = section.bytes.data() + at;
    ZydisDecodedInstruction theirs;
    if (!reference.decode(code, section.bytes.size() - at, theirs)) return;
    Instruction ours;
    std::string difference_found = "refused";
    if (decode(code, section.bytes.size() - at, ours)) difference_found = difference(ours, theirs);
    if (!difference_found.empty()) {
      result.differences.push_back(std::to_string(section.address + at) + ": " +
                                   hex(code, theirs.length) + difference_found);
    }
    ++result.instructions;
    result.vector_instructions += theirs.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    at += theirs.length;
  }
}

void compare_file(const CodeFile& file, const Reference& reference, Comparison& result) {
  for (const CodeSection& section : file.sections) {
    const uint64_t section_end = section.address + section.bytes.size();
    uint64_t previous = section.address;
    for (const uint64_t start : file.starts) {
      if (start < section.address || start >= section_end) continue;
      compare_run(section, previous - section.address, start - section.address, reference, result);
      previous = start;
    }
    compare_run(section, previous - section.address, section.bytes.size(), reference, result);
  }
}

std::vector<std::string> shared_objects(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && name.find(".so") != std::string::npos) {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

TEST_CASE("decode: known encodings have their length, kind and displacement", "[decoder]") {
  struct Known {
    std::vector<uint8_t> code;
    InstructionKind kind;
    uint8_t displacement_at;
    bool has_target;
    int32_t target;
  };
  const std::vector<Known> known = {
      {{0x90}, InstructionKind::plain, 0, false, 0},
      {{0xb8, 0x27, 0, 0, 0}, InstructionKind::plain, 0, false, 0},
      {{0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, InstructionKind::plain, 0, false, 0},
      {{0x66, 0xb8, 1, 2}, InstructionKind::plain, 0, false, 0},
      {{0x66, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, InstructionKind::plain, 0, false, 0},
      {{0x0f, 0x05}, InstructionKind::system_call, 0, false, 0},
      {{0xe8, 0x10, 0, 0, 0}, InstructionKind::call, 0, true, 16},
      {{0x66, 0x48, 0xe8, 0x10, 0, 0, 0}, InstructionKind::call, 0, true, 16},  // TLS sequence
      {{0xeb, 0xfe}, InstructionKind::jump, 0, true, -2},
      {{0x0f, 0x84, 0xff, 0xff, 0xff, 0xff}, InstructionKind::conditional, 0, true, -1},
      {{0xe3, 0x05}, InstructionKind::conditional, 0, true, 5},
      {{0xc7, 0xf8, 2, 0, 0, 0}, InstructionKind::conditional, 0, true, 2},  // xbegin
      {{0xff, 0xe0}, InstructionKind::indirect_jump, 0, false, 0},
      {{0x3e, 0xff, 0xe2}, InstructionKind::indirect_jump, 0, false, 0},  // notrack
      {{0xff, 0x15, 1, 0, 0, 0}, InstructionKind::indirect_call, 2, false, 0},
      {{0x48, 0x8d, 0x3d, 1, 0, 0, 0}, InstructionKind::plain, 3, false, 0},
      {{0xf6, 0x05, 1, 0, 0, 0, 9}, InstructionKind::plain, 2, false, 0},  // test with immediate
      {{0xf6, 0x15, 1, 0, 0, 0}, InstructionKind::plain, 2, false, 0},     // not: none
      {{0x66, 0xf7, 0x05, 1, 0, 0, 0, 9, 9}, InstructionKind::plain, 3, false, 0},
      {{0xa0, 1, 2, 3, 4, 5, 6, 7, 8}, InstructionKind::plain, 0, false, 0},
      {{0x67, 0xa0, 1, 2, 3, 4}, InstructionKind::plain, 0, false, 0},
      {{0xc8, 1, 2, 3}, InstructionKind::plain, 0, false, 0},
      {{0x0f, 0x0f, 0xc1, 0x9e}, InstructionKind::plain, 0, false, 0},  // pfadd
      {{0x0f, 0x0f, 0x05, 1, 0, 0, 0, 0x9e}, InstructionKind::plain, 3, false, 0},
      {{0x0f, 0x22, 0x05}, InstructionKind::plain, 0, false, 0},  // mov %rbp,%cr0: mod ignored
      {{0xf2, 0x0f, 0x78, 0xc1, 1, 2}, InstructionKind::plain, 0, false, 0},  // insertq
      {{0x0f, 0x78, 0xc1}, InstructionKind::plain, 0, false, 0},              // vmread
      {{0xc5, 0xf8, 0x77}, InstructionKind::plain, 0, false, 0},              // vzeroupper
      {{0xc5, 0xf9, 0x70, 0xc1, 7}, InstructionKind::plain, 0, false, 0},     // vpshufd
      {{0xc4, 0xe3, 0x79, 0x0f, 0x05, 1, 0, 0, 0, 7}, InstructionKind::plain, 5, false, 0},
      {{0x62, 0xf1, 0x7c, 0x48, 0x10, 0x05, 1, 0, 0, 0}, InstructionKind::plain, 6, false, 0},
      {{0x62, 0xf3, 0x7d, 0x48, 0x25, 0xc1, 7}, InstructionKind::plain, 0, false, 0},
      {{0x8f, 0xe8, 0x78, 0xc0, 0xc1, 7}, InstructionKind::plain, 0, false, 0},  // vprotb (XOP)
      {{0x8f, 0xe9, 0x78, 0x01, 0xc9}, InstructionKind::plain, 0, false, 0},     // blcfill (XOP)
      {{0x8f, 0xea, 0x78, 0x10, 0xc0, 1, 2, 3, 4}, InstructionKind::plain, 0, false, 0},
      {{0x8f, 0x00}, InstructionKind::plain, 0, false, 0},  // pop (%rax)
      {{0xf3, 0x0f, 0x1e, 0xfa}, InstructionKind::plain, 0, false, 0},
      {{0x0f, 0x0b}, InstructionKind::trap, 0, false, 0},
      {{0xc3}, InstructionKind::ret, 0, false, 0},
      {{0xf3, 0xc3}, InstructionKind::ret, 0, false, 0},
      {{0x48, 0x8b, 0x04, 0x25, 1, 0, 0, 0}, InstructionKind::plain, 0, false, 0},
  };
  for (const Known& k : known) {
    INFO(hex(k.code.data(), k.code.size()));
    std::vector<uint8_t> padded = k.code;
    padded.resize(32, 0x90);
    Instruction instruction;
    REQUIRE(decode(padded.data(), padded.size(), instruction));
    CHECK(instruction.length == k.code.size());
    CHECK(instruction.kind == k.kind);
    CHECK(instruction.displacement_at == k.displacement_at);
    CHECK(instruction.has_target == k.has_target);
    CHECK(instruction.target_offset == k.target);
    // One byte less is not enough, however it is cut.
    for (size_t cut = 0; cut < k.code.size(); ++cut) {
      CHECK_FALSE(decode(k.code.data(), cut, instruction));
    }
  }
}

TEST_CASE("decode: undefined and unprovable encodings are refused or marked", "[decoder]") {
  const std::vector<std::vector<uint8_t>> refused = {
      {0x06},
      {0x27},
      {0x60},
      {0x82, 0xc0, 1},
      {0x9a, 0, 0, 0, 0, 0, 0},
      {0xce},
      {0xd4, 1},
      {0xd6},
      {0xea, 0, 0, 0, 0, 0, 0},
      {0x0f, 0x04},
      {0x0f, 0x0a},
      {0x0f, 0x24, 0xc0},
      {0x0f, 0x3f, 0xc0},
      {0x66, 0xc5, 0xf8, 0x77},                          // a prefix before VEX
      {0x48, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0xc0},        // REX before EVEX
      {0x62, 0xf9, 0x7c, 0x48, 0x10, 0xc0, 0, 0, 0, 0},  // a map of APX
      {0xd5, 0x00, 0x90},                                // REX2
      std::vector<uint8_t>(16, 0x66),                    // never ends
  };
  for (const auto& code : refused) {
    INFO(hex(code.data(), code.size()));
    std::vector<uint8_t> padded = code;
    padded.resize(32, 0);
    Instruction instruction;
    CHECK_FALSE(decode(padded.data(), padded.size(), instruction));
  }
  // AMD jumps elsewhere than Intel.
  const std::vector<uint8_t> ambiguous = {0x66, 0xe9, 1, 0, 0, 0};
  Instruction instruction;
  REQUIRE(decode(ambiguous.data(), ambiguous.size(), instruction));
  CHECK(instruction.vendor_dependent);
}

TEST_CASE("decode: random bytes give what Zydis gives and nothing is read past the end",
          "[decoder]") {
  const uint64_t seed = test::test_seed();
  INFO("WEFT_SEED=" << seed);
  test::Random random(seed);
  const Reference reference;
  // The code ends where the readable page ends.
  auto* const pages = static_cast<uint8_t*>(
      mmap(nullptr, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  REQUIRE(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
  constexpr uint8_t kStarters[] = {0x0f, 0x66, 0xf2, 0xf3, 0x48, 0xc4, 0xc5, 0x62, 0x8f, 0x67};
  unsigned compared = 0;
  for (int round = 0; round < 400000; ++round) {
    const size_t available = 1 + random.below(20);
    uint8_t* const code = pages + 4096 - available;
    for (size_t i = 0; i < available; ++i) code[i] = static_cast<uint8_t>(random.next() >> 40);
    // Half of the rounds begin with what leads into the rarer tables.
    if (random.below(2) == 0) code[0] = kStarters[random.below(sizeof kStarters)];
    Instruction ours;
    const bool accepted = decode(code, available, ours);
    if (accepted) REQUIRE(ours.length <= available);
    ZydisDecodedInstruction theirs;
    if (!reference.decode(code, available, theirs)) continue;
    // Knights Corner, which no Linux distribution runs on.
    if (theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
        theirs.mnemonic == ZYDIS_MNEMONIC_JKNZD || theirs.mnemonic == ZYDIS_MNEMONIC_JKZD) {
      continue;
    }
    ++compared;
    const std::string found = accepted ? difference(ours, theirs) : "refused";
    if (!found.empty()) {
      INFO(hex(code, theirs.length));
      FAIL(found);
    }
  }
  CHECK(compared > 100000);
  munmap(pages, 2 * 4096);
}

TEST_CASE("decode: agrees with Zydis on every instruction of the system's objects",
          "[decoder][corpus]") {
  const std::string folder = "/usr/lib/x86_64-linux-gnu/";
  const bool all = std::getenv("WEFT_DECODER_ALL") != nullptr;
  std::vector<std::string> paths;
  for (const char* name :
       {"libc.so.6", "ld-linux-x86-64.so.2", "libstdc++.so.6", "libm.so.6", "libcrypto.so.3",
        "liburing.so.2", "libgomp.so.1", "libpython3.11.so.1.0", "libzstd.so.1", "libx264.so.164",
        "libavcodec.so.59"}) {
    if (std::filesystem::exists(folder + name)) paths.push_back(folder + name);
  }
  REQUIRE(paths.size() >= 5);
  const std::string server = "/usr/sbin/mariadbd";
  if (std::filesystem::exists(server)) paths.push_back(server);
  // Of the rest every 40th, as many as fit in the time.
  const std::vector<std::string> rest = shared_objects(folder);
  const size_t fixed = paths.size();
  for (size_t i = 0; i < rest.size(); i += all ? 1 : 40) paths.push_back(rest[i]);

  const Reference reference;
  Comparison total;
  size_t files = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (size_t i = 0; i < paths.size(); ++i) {
    if (!all && i >= fixed && std::chrono::steady_clock::now() > deadline) break;
    const auto file = test::read_code(paths[i]);
    if (!file) continue;
    Comparison result;
    compare_file(*file, reference, result);
    for (const std::string& found : result.differences) UNSCOPED_INFO(paths[i] << " " << found);
    CHECK(result.differences.empty());
    total.instructions += result.instructions;
    total.vector_instructions += result.vector_instructions;
    ++files;
  }
  std::cout << "decoder corpus: " << files << " files, " << total.instructions
            << " instructions, of these VEX/EVEX/XOP/3DNow " << total.vector_instructions << "\n";
  CHECK(total.instructions > 500000);
  CHECK(total.vector_instructions > 10000);
}

}  // namespace weft::preload
