// boot.cc - checks, workers, patching (boot.h). Runs on the program's one kernel thread, outside the
// gate: it may call libc.
// SPDX-License-Identifier: Apache-2.0
#include "preload/boot.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <linux/stat.h>
#include <sys/syscall.h>

#include <atomic>

#include "platform/os.h"
#include "platform/thread_pointer.h"
#include "preload/config.h"
#include "preload/gate.h"
#include "preload/late_objects.h"
#include "preload/patcher/elf_image.h"
#include "preload/patcher/patcher.h"
#include "preload/patcher/site_cache.h"
#include "preload/user_dispatch.h"
#include "scheduler/text.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signals.h"

extern "C" {
// Where this library lies; the linker defines it.
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
// glibc 2.35 and later: where a thread's rseq area is, from its thread pointer.
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
}

namespace weft::preload {
namespace {

enum class BootState : int { untried, booting, live, declined };

constinit std::atomic<BootState> g_state{BootState::untried};
constinit const char* const* g_environment = nullptr;
constinit uint64_t g_auxiliary[64] = {};
constinit Config g_config;
constinit char g_cache_directory[kCachePathBytes] = {};

uint64_t auxiliary(uint64_t type) { return type < 64 ? g_auxiliary[type] : 0; }

void remember_start(const char* const* environment) {
  g_environment = environment;
  // The auxiliary vector follows the environment on the initial stack (getauxval(3)).
  const char* const* end = environment;
  while (*end != nullptr) end++;
  const auto* entry = reinterpret_cast<const Elf64_auxv_t*>(end + 1);
  for (; entry->a_type != AT_NULL; entry++) {
    if (entry->a_type < 64) g_auxiliary[entry->a_type] = entry->a_un.a_val;
  }
  platform::set_vdso(auxiliary(AT_SYSINFO_EHDR));
}

// One line, once, and only if somebody asked: most programs that stay native have good reason.
bool decline(const char* why) {
  if (g_config.verbose) {
    Text<512> line;
    line.append("weft: ").append(why).append("; the program runs natively\n");
    line.write_error();
  }
  return false;
}

bool has_one_kernel_thread() {
  struct statx status = {};
  const long result = system_call(SYS_statx, AT_FDCWD, address_of("/proc/self/task"), 0,
                                  STATX_NLINK, address_of(&status));
  // A directory has two links and one for each directory in it. Without /proc trust the door.
  return result != 0 || status.stx_nlink == 3;
}

bool can_be_served() {
  if (g_config.off) return decline("WEFT=0");
  if (auxiliary(AT_SECURE) != 0) return decline("a privileged program (AT_SECURE)");
  if (!platform::has_fast_thread_pointer(auxiliary(AT_HWCAP2))) {
    return decline("no FSGSBASE: a processor or kernel (before 5.9) without user-space FS switching");
  }
  if (dlsym(RTLD_DEFAULT, "gnu_get_libc_version") == nullptr) return decline("the libc is not glibc");
  for (const char* symbol : {"__asan_init", "__tsan_init", "__msan_init"}) {
    if (dlsym(RTLD_DEFAULT, symbol) != nullptr) return decline("built with a sanitizer");
  }
  if (!has_one_kernel_thread()) return decline("it has several kernel threads already");
  return true;
}

struct Images {
  static constexpr size_t kMax = 512;
  ImageRef refs[kMax] = {};
  size_t count = 0;
};

int collect_image(dl_phdr_info* info, size_t, void* argument) {
  auto& images = *static_cast<Images*>(argument);
  const ElfW(Phdr)* first = nullptr;
  for (int i = 0; i < info->dlpi_phnum && first == nullptr; i++) {
    if (info->dlpi_phdr[i].p_type == PT_LOAD) first = &info->dlpi_phdr[i];
  }
  if (first == nullptr || images.count == Images::kMax) return 0;
  const auto* header = reinterpret_cast<const char*>(info->dlpi_addr + first->p_vaddr);
  const bool ours = header == __ehdr_start;
  const bool vdso = reinterpret_cast<uintptr_t>(header) == auxiliary(AT_SYSINFO_EHDR);
  if (ours || vdso) return 0;
  const char* name = info->dlpi_name[0] == 0 ? "program" : info->dlpi_name;
  ElfImage image;
  bool required = false;
  if (ElfImage::parse(header, SIZE_MAX, image)) {
    required = text_equal(image.soname(), "libc.so.6") ||
               text_equal(image.soname(), "ld-linux-x86-64.so.2");
  }
  images.refs[images.count++] = {header, name, required};
  return 0;
}

bool patch_all() {
  static constinit Images images;
  images.count = 0;
  dl_iterate_phdr(collect_image, &images);
  PatchOptions options = {};
  options.gate_entry = reinterpret_cast<const void*>(weft_gate_entry);
  options.cache_directory = g_cache_directory[0] == 0 ? nullptr : g_cache_directory;
  PatchReport report = {};
  if (patch_images({images.refs, images.count}, options, report)) return true;
  Text<512> line;
  line.append("weft: ").append(report.error).append("; the program runs natively\n");
  line.write_error();
  return false;
}

void prepare() {
  g_runtime.options.workers = g_config.workers;
  g_runtime.options.blocking_max = g_config.blocking_max;
  g_runtime.options.stats = g_config.stats;
  g_runtime.options.follow = g_config.follow;
  g_runtime.hooks.resume_frame = weft_resume_frame;
  g_runtime.hooks.executable_mapped = note_executable_mapping;
  g_runtime.hooks.descriptor_closing = patch_mapped_object;
  g_runtime.hooks.restart = [] {
    g_runtime.rseq_area = 0;  // unregistered before the fork
    return start_runtime() == nullptr;
  };
  if (&__rseq_size != nullptr && __rseq_size != 0) {
    g_runtime.rseq_area =
        platform::read_thread_pointer() + static_cast<uintptr_t>(__rseq_offset);
  }
  if (g_config.cache) {
    site_cache_directory(variable(g_environment, "XDG_CACHE_HOME"),
                         variable(g_environment, "HOME"), g_cache_directory);
  }
  set_late_object_options({reinterpret_cast<const void*>(weft_gate_entry),
                           g_cache_directory[0] == 0 ? nullptr : g_cache_directory, false});
  if (g_config.intercept != Intercept::patch) {
    g_runtime.hooks.kernel_thread_started = start_user_dispatch;
    prepare_user_dispatch(g_config.intercept == Intercept::audit);
  }
}

bool become_live() {
  if (!read_config(g_environment, g_config)) return false;
  if (!can_be_served()) return false;
  prepare();
  if (const char* why = start_runtime(); why != nullptr) return decline(why);
  if (g_config.intercept != Intercept::dispatch && !patch_all()) {
    g_runtime.live = false;
    return_signals(*g_runtime.main_thread);
    return false;
  }
  return true;
}

[[gnu::constructor]] void on_load(int, char**, char** environment) {
  remember_start(environment);
}

}  // namespace

const char* const* initial_environment() { return g_environment; }

void boot() {
  // Relaxed: decided while the process has one kernel thread; others come later.
  if (g_state.load(std::memory_order_relaxed) != BootState::untried) return;
  // Booting may itself create no thread, but libc may call back through a door.
  g_state.store(BootState::booting, std::memory_order_relaxed);
  g_state.store(become_live() ? BootState::live : BootState::declined, std::memory_order_relaxed);
}

}  // namespace weft::preload
