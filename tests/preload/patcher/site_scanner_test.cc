// site_scanner_test.cc - finds the same system calls as objdump, and a window for every one.
// Each window is checked again here with the reference decoder and an independent list of branches.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/site_scanner.h"

#include <Zydis/Zydis.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <iostream>
#include <set>
#include <string>

#include "preload/patcher/site_cache.h"
#include "preload/patcher/window_planner.h"
#include "support.h"

namespace weft::preload {
namespace {

struct Scan {
  ElfImage image;
  std::vector<SitePlan> plans;
  ScanCounts counts{};
  bool complete = false;
};

Scan scan_object(const void* header, size_t readable_bytes) {
  Scan scan;
  REQUIRE(ElfImage::parse(header, readable_bytes, scan.image));
  BoundedTable<SitePlan> plans(kSitesMax);
  SiteScanner scanner(scan.image, nullptr);
  scan.complete = scanner.scan(plans, scan.counts);
  scan.plans.assign(plans.values().begin(), plans.values().end());
  return scan;
}

std::set<uint64_t> planned_sites(const Scan& scan) {
  std::set<uint64_t> addresses;
  for (const SitePlan& plan : scan.plans) {
    addresses.insert(scan.image.header() - scan.image.bias() + plan.window + plan.syscall_at);
  }
  return addresses;
}

bool is_signal_return(const Scan& scan, uint64_t address) {
  const auto* const code = reinterpret_cast<const char*>(scan.image.bias() + address - 7);
  return std::memcmp(code, "\x48\xc7\xc0\x0f\0\0\0\x0f\x05", 9) == 0;
}

// Targets of all direct branches of an object, from a linear Zydis run over every function.
std::set<uint64_t> branch_targets(const std::string& path) {
  std::set<uint64_t> targets;
  const auto file = test::read_code(path);
  REQUIRE(file);
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  for (const test::CodeSection& section : file->sections) {
    auto start = std::lower_bound(file->starts.begin(), file->starts.end(), section.address);
    for (size_t at = 0; at < section.bytes.size();) {
      // Every function start sets the boundaries right again.
      while (start != file->starts.end() && *start < section.address + at) ++start;
      const size_t limit = start == file->starts.end() || *start <= section.address + at
                               ? section.bytes.size()
                               : std::min<size_t>(*start - section.address, section.bytes.size());
      ZydisDecodedInstruction i;
      if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, nullptr, section.bytes.data() + at,
                                                      limit - at, &i))) {
        ++at;
        continue;
      }
      if (i.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && i.raw.imm[0].is_relative) {
        targets.insert(section.address + at + i.length +
                       static_cast<uint64_t>(i.raw.imm[0].value.s));
      }
      at += i.length;
    }
    targets.insert(file->starts.begin(), file->starts.end());
  }
  return targets;
}

}  // namespace

TEST_CASE("SiteScanner: the same sites as objdump, and a window for each", "[scanner]") {
  const char* const name =
      GENERATE("libc.so.6", "ld-linux-x86-64.so.2", "liburing.so.2", "libgomp.so.1");
  INFO(name);
  const auto object = test::load(name);
  REQUIRE(object);
  const Scan scan = scan_object(reinterpret_cast<const void*>(object->header), SIZE_MAX);
  REQUIRE(scan.complete);
  CHECK(scan.counts.unpatchable == 0);
  CHECK(scan.counts.unproven == 0);

  std::set<uint64_t> ours = planned_sites(scan);
  std::set<uint64_t> theirs = test::objdump_syscalls(object->path);
  REQUIRE(!theirs.empty());
  for (const uint64_t address : theirs) {
    if (is_signal_return(scan, address)) ours.insert(address);
  }
  CHECK(ours == theirs);

  const std::set<uint64_t> targets = branch_targets(object->path);
  CHECK(targets.size() > 100);
  uint64_t previous_end = 0;
  for (const SitePlan& plan : scan.plans) {
    const uint64_t window = scan.image.header() - scan.image.bias() + plan.window;
    INFO("window " << std::hex << window);
    CHECK(plan_is_sound(plan));
    CHECK(window >= previous_end);
    previous_end = window + plan.window_bytes;
    const uint64_t last = std::max<uint64_t>(previous_end, window + plan.syscall_at + 1);
    const auto inside = targets.upper_bound(window);
    CHECK((inside == targets.end() || *inside >= last));
  }
}

TEST_CASE("SiteScanner: most of libc's windows leave the syscall intact and know the number",
          "[scanner]") {
  const auto libc = test::find_loaded("/libc.so.6");
  REQUIRE(libc);
  const Scan scan = scan_object(reinterpret_cast<const void*>(libc->header), SIZE_MAX);
  size_t intact = 0;
  size_t numbered = 0;
  for (const SitePlan& plan : scan.plans) {
    intact += plan.keeps_syscall();
    numbered += plan.number >= 0;
  }
  CHECK(intact > scan.plans.size() * 3 / 4);
  CHECK(numbered > scan.plans.size() * 3 / 4);
  CHECK(scan.counts.left_alone == 1);
  CHECK(scan.counts.byte_pairs > scan.counts.sites);  // libc has pairs inside other instructions
}

TEST_CASE("SiteScanner: the made-up object's traps are seen", "[scanner]") {
  const test::MappedObject object(WEFT_TEST_SITES);
  REQUIRE(object.valid());
  const Scan scan = scan_object(object.header(), object.bytes());
  REQUIRE(scan.complete);
  CHECK(scan.counts.unpatchable == 0);
  CHECK(scan.counts.unproven == 1);  // data that looks like a syscall
  CHECK(scan.counts.left_alone == 1);
  std::set<uint64_t> theirs = test::objdump_syscalls(WEFT_TEST_SITES);
  for (const uint64_t site : planned_sites(scan)) CHECK(theirs.count(site) == 1);

  // Only a table of pointers, not relocated here, leads to the syscall of this window.
  const uintptr_t function = scan.image.find_symbol("site_pointer_switch");
  REQUIRE(function != 0);
  size_t forward = 0;
  for (const SitePlan& plan : scan.plans) {
    const uintptr_t window = scan.image.header() + plan.window;
    if (window > function && window < function + 48) forward += plan.has_tail();
  }
  CHECK(forward == 1);

  const test::MappedObject bad(WEFT_TEST_BAD_SITES);
  REQUIRE(bad.valid());
  const Scan refused = scan_object(bad.header(), bad.bytes());
  CHECK(refused.counts.sites == 2);
  CHECK(refused.counts.unpatchable == 1);
  CHECK(refused.plans.size() == 1);
}

TEST_CASE("SiteScanner: without frame descriptions the dynamic symbols bound the functions",
          "[scanner]") {
  test::MappedObject object(WEFT_TEST_SITES);
  REQUIRE(object.valid());
  const size_t with_frames = scan_object(object.header(), object.bytes()).plans.size();
  auto* const header = static_cast<Elf64_Ehdr*>(object.header());
  auto* const entries =
      reinterpret_cast<Elf64_Phdr*>(static_cast<char*>(object.header()) + header->e_phoff);
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    if (entries[i].p_type == PT_GNU_EH_FRAME) entries[i].p_type = PT_NULL;
  }
  const Scan scan = scan_object(object.header(), object.bytes());
  CHECK(scan.complete);
  CHECK(scan.plans.size() + scan.counts.unpatchable + scan.counts.unproven >= with_frames);
  CHECK(scan.plans.size() >= with_frames - 2);
  const std::set<uint64_t> theirs = test::objdump_syscalls(WEFT_TEST_SITES);
  for (const uint64_t site : planned_sites(scan)) CHECK(theirs.count(site) == 1);
}

TEST_CASE("plan_is_sound: only whole instructions around the syscall pass", "[scanner]") {
  SitePlan plan{};
  plan.window_bytes = 5;
  plan.syscall_at = 5;
  plan.checked_bytes = 7;
  plan.number = 39;
  const uint8_t code[] = {0xb8, 0x27, 0, 0, 0, 0x0f, 0x05};
  std::memcpy(plan.original, code, sizeof code);
  REQUIRE(plan_is_sound(plan));
  const auto with = [&](auto change) {
    SitePlan changed = plan;
    change(changed);
    return plan_is_sound(changed);
  };
  CHECK_FALSE(with([](SitePlan& p) { p.window_bytes = 4; }));
  CHECK_FALSE(with([](SitePlan& p) { p.window_bytes = 6; }));
  CHECK_FALSE(with([](SitePlan& p) { p.syscall_at = 4; }));
  CHECK_FALSE(with([](SitePlan& p) { p.checked_bytes = 200; }));
  CHECK_FALSE(with([](SitePlan& p) { p.original[5] = 0x90; }));
  CHECK_FALSE(with([](SitePlan& p) { p.original[0] = 0xe8; }));  // a call cannot move
  CHECK_FALSE(with([](SitePlan& p) { p.original[0] = 0x06; }));
  CHECK_FALSE(with([](SitePlan& p) { p.reserved = 1; }));
}

// Not a benchmark of the runtime: prints what start-up pays. Run with the tag [timing].
TEST_CASE("SiteScanner: time of a scan with and without the cache", "[.][timing]") {
  const test::TemporaryFolder folder;
  const std::string directory = folder.path() + "/weft/sites-v1";
  const SiteCache cache(directory.c_str());
  const auto measure = [&](const std::string& name, const void* header, size_t bytes) {
    ElfImage image;
    REQUIRE(ElfImage::parse(header, bytes, image));
    double best_scan = 1e9;
    double best_load = 1e9;
    for (int i = 0; i < 5; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      BoundedTable<SitePlan> plans(kSitesMax);
      ScanCounts counts;
      REQUIRE(SiteScanner(image, nullptr).scan(plans, counts));
      const auto scanned = std::chrono::steady_clock::now();
      cache.store(image, plans.values(), counts);
      const auto stored = std::chrono::steady_clock::now();
      BoundedTable<SitePlan> loaded(kSitesMax);
      REQUIRE(cache.load(image, loaded, counts));
      const auto end = std::chrono::steady_clock::now();
      using Microseconds = std::chrono::duration<double, std::micro>;
      best_scan = std::min(best_scan, Microseconds(scanned - begin).count());
      best_load = std::min(best_load, Microseconds(end - stored).count());
    }
    std::cout << name << ": scan " << best_scan << " us, from cache " << best_load << " us\n";
  };
  for (const char* name : {"libc.so.6", "ld-linux-x86-64.so.2", "liburing.so.2", "libgomp.so.1"}) {
    const auto object = test::load(name);
    REQUIRE(object);
    measure(name, reinterpret_cast<const void*>(object->header), SIZE_MAX);
  }
  const test::MappedObject server("/usr/sbin/mariadbd");
  if (server.valid()) measure("mariadbd", server.header(), server.bytes());
}

}  // namespace weft::preload
