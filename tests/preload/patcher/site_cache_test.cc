// site_cache_test.cc - what is stored comes back, and nothing damaged, foreign or stale does.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/site_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "preload/patcher/site_scanner.h"
#include "support.h"

namespace weft::preload {
namespace {

// The made-up object with its scan, in memory that a test may change.
struct Subject {
  test::MappedObject object{WEFT_TEST_SITES};
  ElfImage image;
  BoundedTable<SitePlan> plans{kSitesMax};
  ScanCounts counts{};
  test::TemporaryFolder folder;
  std::string directory = folder.path() + "/cache/weft/sites-v1";
  SiteCache cache{directory.c_str()};

  Subject() {
    REQUIRE(object.valid());
    REQUIRE(ElfImage::parse(object.header(), object.bytes(), image));
    REQUIRE(SiteScanner(image, nullptr).scan(plans, counts));
    REQUIRE(plans.size() > 5);
    REQUIRE(image.build_id().size() == 20);
  }
  bool load() const {
    BoundedTable<SitePlan> loaded(kSitesMax);
    ScanCounts loaded_counts{};
    const bool good = cache.load(image, loaded, loaded_counts);
    // All or nothing.
    CHECK(loaded.size() == (good ? plans.size() : 0));
    return good;
  }
  std::string file() const {
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      return entry.path().string();
    }
    return {};
  }
};

void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

unsigned mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(stat(path.c_str(), &status) == 0);
  return status.st_mode & 0777;
}

}  // namespace

TEST_CASE("site_cache_directory: follows XDG_CACHE_HOME, then HOME, then gives up", "[cache]") {
  char path[kCachePathBytes];
  REQUIRE(site_cache_directory("/x/cache", "/home/a", path));
  CHECK(std::string(path) == "/x/cache/weft/sites-v1");
  REQUIRE(site_cache_directory(nullptr, "/home/a", path));
  CHECK(std::string(path) == "/home/a/.cache/weft/sites-v1");
  REQUIRE(site_cache_directory("relative", "/home/a", path));
  CHECK(std::string(path) == "/home/a/.cache/weft/sites-v1");
  CHECK_FALSE(site_cache_directory(nullptr, nullptr, path));
  CHECK_FALSE(site_cache_directory("", "", path));
  CHECK_FALSE(site_cache_directory(nullptr, ("/" + std::string(600, 'a')).c_str(), path));
}

TEST_CASE("SiteCache: what was stored is loaded, from private files", "[cache]") {
  Subject subject;
  CHECK_FALSE(subject.load());
  REQUIRE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
  BoundedTable<SitePlan> loaded(kSitesMax);
  ScanCounts counts{};
  REQUIRE(subject.cache.load(subject.image, loaded, counts));
  REQUIRE(loaded.size() == subject.plans.size());
  CHECK(std::memcmp(&loaded[0], &subject.plans[0], loaded.values().size_bytes()) == 0);
  CHECK(std::memcmp(&counts, &subject.counts, sizeof counts) == 0);
  CHECK(mode_of(subject.directory) == 0700);
  CHECK(mode_of(subject.folder.path() + "/cache") == 0700);
  CHECK(mode_of(subject.file()) == 0600);
  // Again, over the old file, leaving no other behind.
  REQUIRE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
  const std::filesystem::directory_iterator entries(subject.directory);
  CHECK(std::distance(begin(entries), end(entries)) == 1);
}

TEST_CASE("SiteCache: null directory means no cache", "[cache]") {
  Subject subject;
  const SiteCache none(nullptr);
  BoundedTable<SitePlan> loaded(kSitesMax);
  ScanCounts counts{};
  CHECK_FALSE(none.store(subject.image, subject.plans.values(), subject.counts));
  CHECK_FALSE(none.load(subject.image, loaded, counts));
}

TEST_CASE("SiteCache: every damaged byte and every cut is noticed", "[cache]") {
  Subject subject;
  REQUIRE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
  const std::string path = subject.file();
  const std::string good = test::read_text(path);
  REQUIRE(subject.load());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string damaged = good;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    write_text(path, damaged);
    INFO("byte " << i);
    REQUIRE_FALSE(subject.load());
  }
  for (const size_t size : {size_t{0}, size_t{8}, size_t{100}, good.size() - 36, good.size() - 1}) {
    write_text(path, good.substr(0, size));
    CHECK_FALSE(subject.load());
  }
  write_text(path, good + "x");
  CHECK_FALSE(subject.load());
  write_text(path, good);
  CHECK(subject.load());
}

TEST_CASE("SiteCache: records that do not match the object's bytes are refused", "[cache]") {
  Subject subject;
  REQUIRE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
  REQUIRE(subject.load());
  auto* const window = static_cast<uint8_t*>(subject.object.header()) + subject.plans[2].window;
  const uint8_t saved = *window;
  *window = 0xcc;
  CHECK_FALSE(subject.load());
  *window = saved;
  CHECK(subject.load());

  SECTION("a well-formed file with an unsound record") {
    SitePlan& plan = subject.plans[0];
    REQUIRE(plan.keeps_syscall());
    plan.window_bytes = static_cast<uint8_t>(plan.syscall_at + 1);  // half of a syscall
    REQUIRE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
    CHECK_FALSE(subject.load());
  }
  SECTION("a well-formed file with overlapping records") {
    subject.plans[1] = subject.plans[0];
    REQUIRE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
    CHECK_FALSE(subject.load());
  }
  SECTION("a well-formed file with a record outside the code") {
    subject.plans[1].window = 0xfffffff0;
    REQUIRE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
    CHECK_FALSE(subject.load());
  }
}

TEST_CASE("SiteCache: files and folders that others may write are not trusted", "[cache]") {
  Subject subject;
  REQUIRE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
  const std::string path = subject.file();
  REQUIRE(chmod(path.c_str(), 0620) == 0);
  CHECK_FALSE(subject.load());
  REQUIRE(chmod(path.c_str(), 0602) == 0);
  CHECK_FALSE(subject.load());
  REQUIRE(chmod(path.c_str(), 0600) == 0);
  CHECK(subject.load());
  REQUIRE(chmod(subject.directory.c_str(), 0770) == 0);
  CHECK_FALSE(subject.load());
  CHECK_FALSE(subject.cache.store(subject.image, subject.plans.values(), subject.counts));
  REQUIRE(chmod(subject.directory.c_str(), 0700) == 0);

  SECTION("a link in place of the file") {
    const std::string elsewhere = subject.folder.path() + "/elsewhere";
    REQUIRE(std::rename(path.c_str(), elsewhere.c_str()) == 0);
    REQUIRE(symlink(elsewhere.c_str(), path.c_str()) == 0);
    CHECK_FALSE(subject.load());
  }
  SECTION("a pipe in place of the file does not block") {
    REQUIRE(unlink(path.c_str()) == 0);
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    CHECK_FALSE(subject.load());
  }
  SECTION("another owner") {
    if (geteuid() != 0) {
      WARN("skipped: changing the owner needs root");
      return;
    }
    REQUIRE(chown(path.c_str(), 65534, 65534) == 0);
    CHECK_FALSE(subject.load());
  }
}

TEST_CASE("SiteCache: a home that does not exist is not made", "[cache]") {
  Subject subject;
  const std::string directory = subject.folder.path() + "/no/such/.cache/weft/sites-v1";
  const SiteCache cache(directory.c_str());
  CHECK_FALSE(cache.store(subject.image, subject.plans.values(), subject.counts));
  CHECK_FALSE(std::filesystem::exists(subject.folder.path() + "/no"));
}

}  // namespace weft::preload
