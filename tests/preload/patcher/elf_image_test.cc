// elf_image_test.cc - what is read from good objects, and that damaged ones are survived.
// The damaged ones are copies in memory that ends at an unreadable page: a read too far is a crash.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/elf_image.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "preload/patcher/site_scanner.h"
#include "preload/patcher/unwind_table.h"
#include "support.h"

namespace weft::preload {
namespace {

// A mapped object moved to the end of readable memory, where it can be damaged.
class GuardedCopy {
 public:
  explicit GuardedCopy(const test::MappedObject& object) : bytes_(object.bytes()) {
    void* const memory = mmap(nullptr, bytes_ + kPageBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    base_ = static_cast<uint8_t*>(memory);
    REQUIRE(mprotect(base_ + bytes_, kPageBytes, PROT_NONE) == 0);
    restore(object);
  }
  ~GuardedCopy() { munmap(base_, bytes_ + kPageBytes); }
  GuardedCopy(const GuardedCopy&) = delete;
  GuardedCopy& operator=(const GuardedCopy&) = delete;

  void restore(const test::MappedObject& object) { std::memcpy(base_, object.header(), bytes_); }
  uint8_t* base() const { return base_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* base_;
  size_t bytes_;
};

// Everything that reads tables.
void exercise(const uint8_t* base, size_t bytes) {
  ElfImage image;
  if (!ElfImage::parse(base, bytes, image)) return;
  image.mentions_symbol("__asan_init");
  image.find_symbol("site_mov");
  BoundedTable<SitePlan> plans(kSitesMax);
  ScanCounts counts;
  SiteScanner scanner(image, nullptr);
  static_cast<void>(scanner.scan(plans, counts));
}

}  // namespace

TEST_CASE("ElfImage: reads libc's name, build-id, symbols and unwind table", "[elf]") {
  const auto libc = test::find_loaded("/libc.so.6");
  REQUIRE(libc);
  ElfImage image;
  REQUIRE(ElfImage::parse(reinterpret_cast<const void*>(libc->header), SIZE_MAX, image));
  CHECK(std::string(image.soname()) == "libc.so.6");
  CHECK(image.build_id().size() == 20);
  CHECK(image.find_symbol("getppid") ==
        reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "getppid")));
  CHECK(image.find_symbol("no_such_symbol") == 0);
  CHECK_FALSE(image.mentions_symbol("__asan_init"));
  const uintptr_t function = image.find_symbol("getppid");
  CHECK(image.code_segment(function, 1) != nullptr);
  CHECK(image.code_segment(image.header(), 1) == nullptr);
  const UnwindTable unwind(image);
  FunctionRange range{};
  REQUIRE(unwind.function_at(function + 3, range));
  CHECK(range.begin == function);
  CHECK(range.described_end <= range.end);
  CHECK_FALSE(unwind.function_at(image.low(), range));
  CHECK_FALSE(unwind.function_at(image.high() + 4096, range));
}

TEST_CASE("ElfImage: a program's undefined symbols count as mentioned", "[elf]") {
  const auto program = test::find_loaded("");
  REQUIRE(program);
  ElfImage image;
  REQUIRE(ElfImage::parse(reinterpret_cast<const void*>(program->header), SIZE_MAX, image));
  CHECK(std::string(image.soname()).empty());
  CHECK(image.mentions_symbol("dl_iterate_phdr"));
  CHECK(image.find_symbol("dl_iterate_phdr") == 0);
}

TEST_CASE("ElfImage: landing pads are found where C++ catches", "[elf]") {
  // libstdc++ catches what a thread's function throws; its tables come from another producer than
  // the assembler files of this test.
  const auto library = test::load("libstdc++.so.6");
  REQUIRE(library);
  ElfImage image;
  REQUIRE(ElfImage::parse(reinterpret_cast<const void*>(library->header), SIZE_MAX, image));
  const UnwindTable unwind(image);
  size_t functions = 0;
  size_t pads = 0;
  size_t outside = 0;
  for (const Segment& segment : image.segments()) {
    if ((segment.flags & PF_X) == 0) continue;
    for (uintptr_t at = segment.begin; at < segment.end;) {
      FunctionRange range{};
      if (!unwind.function_at(at, range)) {
        at += 16;
        continue;
      }
      ++functions;
      REQUIRE(unwind.for_each_landing_pad(range, [&](uintptr_t pad) {
        ++pads;
        outside += image.code_segment(pad, 1) == nullptr;
      }));
      at = range.end;
    }
  }
  CHECK(functions > 1000);
  CHECK(pads > 1000);
  CHECK(outside == 0);
}

TEST_CASE("ElfImage: damaged headers and tables are refused or survived", "[elf][fuzz]") {
  const uint64_t seed = test::test_seed();
  INFO("WEFT_SEED=" << seed);
  test::Random random(seed);
  const test::MappedObject object(WEFT_TEST_SITES);
  REQUIRE(object.valid());
  GuardedCopy copy(object);
  for (int round = 0; round < 20000; ++round) {
    // Most damage goes to the headers, where counts and offsets are.
    const size_t where = random.below(3) == 0 ? copy.bytes() : 1024;
    const size_t changes = 1 + random.below(8);
    for (size_t i = 0; i < changes; ++i) {
      uint8_t* const at = copy.base() + random.below(where - 8);
      const uint64_t value = random.next() >> random.below(64);
      std::memcpy(at, &value, 1 + random.below(8));
    }
    exercise(copy.base(), copy.bytes());
    copy.restore(object);
  }
  SUCCEED();
}

TEST_CASE("ElfImage: damage in libc's unwind and dynamic tables is survived", "[elf][fuzz]") {
  const uint64_t seed = test::test_seed();
  INFO("WEFT_SEED=" << seed);
  test::Random random(seed);
  const auto libc = test::find_loaded("/libc.so.6");
  REQUIRE(libc);
  const test::MappedObject object(libc->path);
  REQUIRE(object.valid());
  GuardedCopy copy(object);
  ElfImage image;
  REQUIRE(ElfImage::parse(copy.base(), copy.bytes(), image));
  const auto unwind = image.unwind_header();
  const auto symbols = image.symbols();
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 200; ++i) {
      const uint64_t value = random.next();
      const size_t which = random.below(3);
      const auto* const table = which == 0 ? unwind.data()
                                : which == 1
                                    ? unwind.data() + unwind.size()  // .eh_frame comes after it
                                    : reinterpret_cast<const uint8_t*>(symbols.data());
      const size_t size = which == 0   ? unwind.size()
                          : which == 1 ? size_t{64} << 10
                                       : symbols.size_bytes();
      std::memcpy(const_cast<uint8_t*>(table) + random.below(size - 8), &value,
                  1 + random.below(8));
    }
    exercise(copy.base(), copy.bytes());
  }
  SUCCEED();
}

}  // namespace weft::preload
