// patch_test.cc - patches real code and runs it: every kind of window in an object made for it,
// then libc and the loader themselves under a program's normal life. Patching is for ever, so what
// concerns the whole process runs in a forked child. SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/patcher.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support.h"
#include "test_gate.h"

extern char** environ;

namespace weft::preload {
namespace {

using test::gate_counts;
using test::LoadedObject;

PatchOptions options_for_test(bool protection_only = false) {
  return {reinterpret_cast<const void*>(&test_gate_entry), nullptr, protection_only};
}

bool patch_one(const LoadedObject& object, bool required, PatchReport& report,
               bool protection_only = false) {
  const ImageRef image{reinterpret_cast<const void*>(object.header), object.path.c_str(), required};
  return patch_images({&image, 1}, options_for_test(protection_only), report);
}

// Runs `body` in a child process; 0 means success. The parent's code stays as it is.
int in_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // a hang is a failure
    _exit(body());
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// Lines of /proc/self/maps whose pages can be written and executed.
std::string writable_code() {
  std::ifstream maps("/proc/self/maps");
  std::string found;
  for (std::string line; std::getline(maps, line);) {
    const std::string rights = line.substr(line.find(' ') + 1, 3);
    if (rights[1] == 'w' && rights[2] == 'x') found += line + "\n";
  }
  return found;
}

// The functions of sites.S.
class Sites {
 public:
  Sites() : handle_(dlopen(WEFT_TEST_SITES, RTLD_NOW | RTLD_LOCAL)) {}
  template <typename Signature>
  Signature* get(const char* name) const {
    return reinterpret_cast<Signature*>(dlsym(handle_, name));
  }
  long call(const char* name, long a = 0, long b = 0) const {
    return get<long(long, long)>(name)(a, b);
  }
  bool loaded() const { return handle_ != nullptr; }

 private:
  void* handle_;
};

constexpr int kGetpid = 39;
constexpr int kGetppid = 110;

// Returns the name of the first thing that went wrong, or "".
std::string run_all_sites(const Sites& sites) {
  const long pid = getpid();
  const long parent = getppid();
  if (sites.call("site_mov") != pid) return "site_mov";
  if (sites.call("site_short_mov", kGetppid) != parent) return "site_short_mov";
  if (sites.call("site_rip_load") != pid) return "site_rip_load";
  if (sites.call("site_rip_store") != (pid | 7L << 32)) return "site_rip_store";
  if (sites.call("site_forward", 0) != pid) return "site_forward 0";
  if (sites.call("site_forward", 1) != parent) return "site_forward 1";
  if (sites.call("site_forward_branch", kGetpid, 1) != pid) return "site_forward_branch";
  if (sites.call("site_forward_branch", 9999, 0) != -77) return "site_forward_branch taken";
  if (sites.call("site_forward_return", kGetppid) != parent) return "site_forward_return";
  if (sites.call("site_branch_before", kGetpid) != pid) return "site_branch_before";
  if (sites.call("site_branch_before", 0) != -5) return "site_branch_before taken";
  if (sites.call("site_switch", 0) != pid) return "site_switch 0";
  if (sites.call("site_switch", 1) != parent) return "site_switch 1";
  if (sites.call("site_pointer_switch", 0) != pid) return "site_pointer_switch 0";
  if (sites.call("site_pointer_switch", 1) != parent) return "site_pointer_switch 1";
  if (sites.call("site_red_zone") != 0) return "site_red_zone";
  if (sites.call("site_flags") != 0x481) return "site_flags";
  if (sites.call("site_none") != 0x50f) return "site_none";
  if (sites.call("site_vector", 4711) != 4711) return "site_vector";
  std::array<uint64_t, 16> block;
  for (size_t i = 0; i < block.size(); ++i) block[i] = 0x1000 + i;
  sites.get<void(uint64_t*)>("site_registers")(block.data());
  for (size_t i = 1; i < block.size(); ++i) {
    if (block[i] != 0x1000 + i) return "site_registers, number " + std::to_string(i);
  }
  return block[0] == static_cast<uint64_t>(pid) ? "" : "site_registers, result";
}

// How many system calls run_all_sites() makes.
constexpr uint64_t kEntriesOfAllSites = 18;

int child_runs_vfork(const Sites& sites) {
  static volatile int shared;
  shared = 0;
  test::worker_block.bytes[kInterceptingByteOffset] = 0;
  const long child = sites.call("site_vfork");
  if (child == 0) {
    shared = test::worker_block.bytes[kInterceptingByteOffset] == 0 ? 42 : 1;
    _exit(7);
  }
  int status = 0;
  if (child < 0 || waitpid(static_cast<pid_t>(child), &status, 0) != child) return 20;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) return 21;
  if (shared != 42) return 22;  // memory is shared, and interception stayed off in the child
  return test::worker_block.bytes[kInterceptingByteOffset] == 1 ? 0 : 23;
}

int child_runs_clone(const Sites& sites) {
  std::vector<uint64_t> stack(1024);
  const auto top = reinterpret_cast<long>(stack.data() + stack.size()) & ~15L;
  const long child = sites.call("site_clone", top);
  int status = 0;
  if (child <= 0 || waitpid(static_cast<pid_t>(child), &status, 0) != child) return 30;
  return WIFEXITED(status) && WEXITSTATUS(status) == 9 ? 0 : 31;
}

int patch_and_run_sites(bool protection_only) {
  const Sites sites;
  const auto object = test::find_loaded(std::strrchr(WEFT_TEST_SITES, '/'));
  if (!sites.loaded() || !object || !test::point_gs_at_worker_block()) return 10;
  if (!run_all_sites(sites).empty()) return 11;  // the object itself is at fault
  PatchReport report;
  if (!patch_one(*object, false, report, protection_only)) {
    std::fprintf(stderr, "patch_images: %s\n", report.error);
    return 12;
  }
  const uint64_t before = gate_counts.entries.load();
  const std::string wrong = run_all_sites(sites);
  if (!wrong.empty()) {
    std::fprintf(stderr, "wrong after patching: %s\n", wrong.c_str());
    return 13;
  }
  const uint64_t entries = gate_counts.entries.load() - before;
  if (entries != kEntriesOfAllSites) {
    std::fprintf(stderr, "%lu entries of the gate\n", static_cast<unsigned long>(entries));
    return 14;
  }
  if (gate_counts.wrong_number.load() != 0) return 15;
  if (!writable_code().empty()) return 16;
  if (const int result = child_runs_vfork(sites)) return result;
  if (const int result = child_runs_clone(sites)) return result;
  return gate_counts.inline_calls.load() >= 2 ? 0 : 17;
}

// A program's normal life on patched libc and loader. Returns the step that failed.
int live_on_patched_libc() {
  // Files and stdio.
  std::FILE* const file = std::tmpfile();
  if (file == nullptr || std::fprintf(file, "%d-%s", 42, "weft") != 7) return 40;
  std::rewind(file);
  char text[16] = {};
  if (std::fgets(text, sizeof text, file) == nullptr || std::strcmp(text, "42-weft") != 0)
    return 41;
  std::fclose(file);
  // Threads that wait for each other.
  std::mutex mutex;
  std::condition_variable changed;
  int turn = 0;
  const auto play = [&](int me) {
    for (int round = 0; round < 100; ++round) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return turn % 2 == me; });
      ++turn;
      changed.notify_all();
    }
  };
  std::thread first(play, 0);
  std::thread second(play, 1);
  first.join();
  second.join();
  if (turn != 200) return 42;
  // Children, by each of libc's ways.
  if (std::system("exit 3") != 3 << 8) return 43;
  std::FILE* const pipe = popen("echo from-a-child", "r");
  if (pipe == nullptr || std::fgets(text, sizeof text, pipe) == nullptr) return 44;
  if (pclose(pipe) != 0 || std::strncmp(text, "from-a-child", 12) != 0) return 45;
  pid_t spawned = 0;
  char program[] = "/bin/true";
  char* arguments[] = {program, nullptr};
  int status = 1;
  if (posix_spawn(&spawned, program, nullptr, nullptr, arguments, environ) != 0) return 46;
  if (waitpid(spawned, &status, 0) != spawned || status != 0) return 47;
  const pid_t forked = fork();
  if (forked == 0) _exit(getpid() != getppid() ? 5 : 6);
  if (waitpid(forked, &status, 0) != forked || WEXITSTATUS(status) != 5) return 48;
  // The loader, sockets, time, exceptions.
  if (dlopen("libgomp.so.1", RTLD_NOW | RTLD_LOCAL) == nullptr) return 49;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || write(pair[0], "x", 1) != 1) return 50;
  if (read(pair[1], text, 1) != 1 || text[0] != 'x') return 51;
  if (read(-1, text, 1) != -1 || errno != EBADF) return 52;
  const timespec short_time{0, 1000};
  if (nanosleep(&short_time, nullptr) != 0) return 53;
  try {
    throw std::string("thrown");
  } catch (const std::string& caught) {
    if (caught != "thrown") return 54;
  }
  return 0;
}

int patch_and_live(bool deny_write_and_execute, bool protection_only) {
  if (!test::point_gs_at_worker_block()) return 10;
  constexpr int kSetMdwe = 65;  // PR_SET_MDWE, Linux 6.3
  constexpr int kRefuseExecGain = 1;
  if (deny_write_and_execute && prctl(kSetMdwe, kRefuseExecGain, 0, 0, 0) != 0) return 77;
  const auto libc = test::find_loaded("/libc.so.6");
  const auto loader = test::find_loaded("/ld-linux-x86-64.so.2");
  if (!libc || !loader) return 11;
  const ImageRef images[] = {
      {reinterpret_cast<const void*>(libc->header), libc->path.c_str(), true},
      {reinterpret_cast<const void*>(loader->header), loader->path.c_str(), true}};
  PatchReport report;
  if (!patch_images(images, options_for_test(protection_only), report)) {
    std::fprintf(stderr, "patch_images: %s\n", report.error);
    return 12;
  }
  if (report.patched + report.left_alone != report.sites || report.unproven != 0) return 13;
  const int result = live_on_patched_libc();
  if (result != 0) return result;
  if (gate_counts.entries.load() < 100 || gate_counts.wrong_number.load() != 0) return 14;
  if (!writable_code().empty()) return 15;
  // What is patched is recognized, and not patched twice.
  PatchReport again;
  if (!patch_images(images, options_for_test(), again) || again.patched != 0) return 16;
  return again.already_patched == report.intact_windows ? 0 : 17;
}

}  // namespace

TEST_CASE("patch_images: every kind of window works as before and enters the gate", "[patcher]") {
  const bool protection_only = GENERATE(false, true);
  INFO("protection_only " << protection_only);
  CHECK(in_child([&] { return patch_and_run_sites(protection_only); }) == 0);
}

TEST_CASE("patch_images: a program lives on patched libc and loader", "[patcher]") {
  const bool protection_only = GENERATE(false, true);
  INFO("protection_only " << protection_only);
  CHECK(in_child([&] { return patch_and_live(false, protection_only); }) == 0);
}

TEST_CASE("patch_images: works where the kernel denies memory that gains execution", "[patcher]") {
  const int result = in_child([] { return patch_and_live(true, false); });
  if (result == 77) {
    WARN("skipped: this kernel has no PR_SET_MDWE");
    return;
  }
  CHECK(result == 0);
}

TEST_CASE("patch_images: sites are described as the gate and the reports need them", "[patcher]") {
  const int result = in_child([] {
    const Sites sites;
    const auto object = test::find_loaded(std::strrchr(WEFT_TEST_SITES, '/'));
    if (!sites.loaded() || !object) return 1;
    PatchReport report;
    if (!patch_one(*object, false, report)) return 2;
    if (report.left_alone != 1 || report.unpatchable != 0 || report.unproven != 1) return 3;
    if (report.patched + report.left_alone != report.sites || report.images != 1) return 4;
    if (std::string(report.first_bad_image) != object->path) return 5;
    const PatchedImage* const image = patched_images();
    if (image == nullptr || image->site_count != report.patched) return 6;
    for (size_t i = 0; i < image->site_count; ++i) {
      const Site& site = image->sites[i];
      const auto pc = reinterpret_cast<uintptr_t>(site.pc);
      if (site_at_pc(pc) != &site || site.image != image) return 7;
      if (site.offset != pc - 2 - image->low) return 8;
      if (!is_stub_address(reinterpret_cast<uintptr_t>(site.stub))) return 9;
      if (site_of_stub(reinterpret_cast<uintptr_t>(site.inline_call)) != &site) return 10;
      if ((site.flags & kSiteSavesVector) == 0) return 11;  // not one of the proven objects
    }
    if (is_stub_address(image->low) || site_at_pc(image->low) != nullptr) return 12;
    const auto mov = reinterpret_cast<uintptr_t>(sites.get<long()>("site_mov"));
    const Site* const found = site_at_pc(mov + 7);
    if (found == nullptr || found->number != kGetpid) return 13;
    // The two bytes of the syscall stay behind a mov; what unwinders match stays as a whole.
    if (std::memcmp(reinterpret_cast<const void*>(mov + 5), "\x0f\x05", 2) != 0) return 14;
    auto* const signal_return = sites.get<void()>("site_signal_return");
    if (std::memcmp(reinterpret_cast<const void*>(signal_return), "\x48\xc7\xc0\x0f\0\0\0\x0f\x05",
                    9) != 0) {
      return 15;
    }
    // Something jumps to these syscalls, in one case through a table: their windows go forward.
    for (const char* name : {"site_forward", "site_forward_branch", "site_switch"}) {
      const auto begin = reinterpret_cast<uintptr_t>(sites.get<long()>(name));
      const Site* inside = nullptr;
      for (uintptr_t pc = begin; pc < begin + 96 && inside == nullptr; ++pc)
        inside = site_at_pc(pc);
      if (inside == nullptr) return 16;
      if (!is_stub_address(reinterpret_cast<uintptr_t>(inside->resume))) return 17;
    }
    return 0;
  });
  CHECK(result == 0);
}

TEST_CASE("patch_images: a required object with a bad site is refused and nothing changes",
          "[patcher]") {
  const auto object = test::load(WEFT_TEST_BAD_SITES);
  REQUIRE(object);
  const auto sites = test::load(WEFT_TEST_SITES);
  REQUIRE(sites);
  const std::string before(reinterpret_cast<const char*>(object->header), 8192);
  const std::string sites_before(reinterpret_cast<const char*>(sites->header), 8192);
  const ImageRef images[] = {
      {reinterpret_cast<const void*>(sites->header), sites->path.c_str(), false},
      {reinterpret_cast<const void*>(object->header), object->path.c_str(), true}};
  PatchReport report;
  CHECK_FALSE(patch_images(images, options_for_test(), report));
  CHECK(report.unpatchable == 1);
  CHECK(report.patched == 0);
  CHECK(std::string(report.error).find("no safe window") != std::string::npos);
  CHECK(std::string(report.error).find(object->path) != std::string::npos);
  CHECK(before == std::string(reinterpret_cast<const char*>(object->header), 8192));
  CHECK(sites_before == std::string(reinterpret_cast<const char*>(sites->header), 8192));

  SECTION("not required: the other site is patched and the bad one is named") {
    const int result = in_child([&] {
      PatchReport second;
      if (!patch_one(*object, false, second)) return 1;
      if (second.patched != 1 || second.unpatchable != 1) return 2;
      if (std::string(second.first_bad_image) != object->path) return 3;
      if (std::memcmp(reinterpret_cast<const void*>(object->header + second.first_bad_offset),
                      "\x0f\x05", 2) != 0) {
        return 4;
      }
      return 0;
    });
    CHECK(result == 0);
  }
}

TEST_CASE("patch_images: what is no ELF object is skipped, or refused if it is required",
          "[patcher]") {
  alignas(4096) static char nonsense[4096] = "nothing of the kind";
  ImageRef image{nonsense, "nonsense", false};
  PatchReport report;
  CHECK(patch_images({&image, 1}, options_for_test(), report));
  CHECK(report.images_skipped == 1);
  image.required = true;
  CHECK_FALSE(patch_images({&image, 1}, options_for_test(), report));
  CHECK(std::string(report.error).find("nonsense") != std::string::npos);
}

// Prints what start-up pays: finding, proving and writing all of libc and the loader.
TEST_CASE("patch_images: time to patch libc and loader", "[.][timing]") {
  const test::TemporaryFolder folder;
  const std::string directory = folder.path() + "/weft/sites-v1";
  const auto libc = test::find_loaded("/libc.so.6");
  const auto loader = test::find_loaded("/ld-linux-x86-64.so.2");
  REQUIRE((libc && loader));
  const ImageRef images[] = {
      {reinterpret_cast<const void*>(libc->header), libc->path.c_str(), true},
      {reinterpret_cast<const void*>(loader->header), loader->path.c_str(), true}};
  for (const char* const what : {"no cache", "filling the cache", "from the cache"}) {
    const int result = in_child([&] {
      if (!test::point_gs_at_worker_block()) return 1;
      PatchOptions options = options_for_test();
      if (std::strcmp(what, "no cache") != 0) options.cache_directory = directory.c_str();
      PatchReport report;
      const auto begin = std::chrono::steady_clock::now();
      if (!patch_images(images, options, report)) return 2;
      const std::chrono::duration<double, std::micro> time =
          std::chrono::steady_clock::now() - begin;
      std::printf("patch %u sites of libc and loader, %s: %.0f us, %u images from cache\n",
                  report.patched, what, time.count(), report.images_from_cache);
      std::fflush(stdout);
      return 0;
    });
    CHECK(result == 0);
  }
}

}  // namespace weft::preload
