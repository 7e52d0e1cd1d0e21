// boot.cc - checks, workers, patching (boot.h). Runs on the program's one kernel thread and outside
// the gate, so it may call libc.
// SPDX-License-Identifier: Apache-2.0
#include "preload/boot.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <linux/stat.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>

#include "platform/os.h"
#include "platform/thread_pointer.h"
#include "preload/config.h"
#include "preload/gate.h"
#include "preload/late_objects.h"
#include "preload/patcher/code_writer.h"
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
constinit uint64_t g_auxiliary[64] = {};
constinit Config g_config;
constinit char g_cache_directory[kCachePathBytes] = {};

uint64_t auxiliary(uint64_t type) { return type < 64 ? g_auxiliary[type] : 0; }

void remember_auxiliary(const char* const* environment) {
  // The auxiliary vector follows the environment on the initial stack (getauxval(3)).
  const char* const* end = environment;
  while (*end != nullptr) end++;
  const auto* entry = reinterpret_cast<const Elf64_auxv_t*>(end + 1);
  for (; entry->a_type != AT_NULL; entry++) {
    if (entry->a_type < 64) g_auxiliary[entry->a_type] = entry->a_un.a_val;
  }
}

void write_line(const char* why) {
  Text<640> line;
  line.append("weft: ").append(why).append("; the program runs natively\n");
  line.write_error();
}

// Something is missing or wrong that the user can change. Told in the first process that meets it:
// what it executes would meet the same, and a line for each would drown the program's own.
bool decline(const char* why) {
  if (g_config.told) return false;
  write_line(why);
  g_config.told = true;
  setenv(kToldVariable, "1", 1);
  return false;
}

// The user asked for it, or nobody can change it: only for those who ask.
bool stay_out(const char* why) {
  if (g_config.verbose) write_line(why);
  return false;
}

bool has_one_kernel_thread() {
  struct statx status = {};
  const long result = system_call(SYS_statx, AT_FDCWD, address_of("/proc/self/task"), 0,
                                  STATX_NLINK, address_of(&status));
  // A directory has two links and one for each directory in it. Without /proc trust the door.
  return result != 0 || status.stx_nlink == 3;
}

// Whether code can be written here. Tried on a page that nobody executes: once a page of libc is
// writable, there is no way on without the permission to make it executable again.
bool can_write_code() {
  const long page = system_call(SYS_mmap, 0, kPageBytes, PROT_READ | PROT_EXEC,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page < 0 && page > -4096) return false;
  constexpr uint8_t kReturn = 0xc3;
  const long written = CodeWriter(false).write(static_cast<uintptr_t>(page), &kReturn, 1);
  system_call(SYS_munmap, page, kPageBytes);
  return written == 0;
}

bool can_be_served() {
  if (g_config.off) return stay_out("WEFT=0");
  if (auxiliary(AT_SECURE) != 0) return stay_out("a privileged program (AT_SECURE)");
  for (const char* symbol : {"__asan_init", "__tsan_init", "__msan_init"}) {
    if (dlsym(RTLD_DEFAULT, symbol) != nullptr) return stay_out("built with a sanitizer");
  }
  if (g_config.complaint[0] != 0) return decline(g_config.complaint);
  if (dlsym(RTLD_DEFAULT, "gnu_get_libc_version") == nullptr) {
    return decline("the libc is not glibc");
  }
  if (!platform::has_fast_thread_pointer(auxiliary(AT_HWCAP2))) {
    return decline(
        "no FSGSBASE: a processor or kernel (before 5.9) without user-space FS switching");
  }
  if (!has_one_kernel_thread()) {
    return decline("the process has several kernel threads already, made without pthread_create");
  }
  if (g_config.intercept != Intercept::dispatch && !can_write_code()) {
    return decline("code cannot be patched: /proc/self/mem and mprotect refuse to write it");
  }
  if (g_config.intercept != Intercept::patch && !user_dispatch_works()) {
    return decline("WEFT_INTERCEPT: this system refuses Syscall User Dispatch (Linux 5.11 has it)");
  }
  return true;
}

struct Images {
  static constexpr size_t kMax = 512;
  ImageRef refs[kMax] = {};
  size_t count = 0;

  void add(const void* header, const char* name, bool required) {
    for (size_t i = 0; i < count; i++) {
      if (refs[i].elf_header == header) return;
    }
    if (count < kMax) refs[count++] = {header, name, required};
  }
};

int collect_image(dl_phdr_info* info, size_t, void* argument) {
  auto& images = *static_cast<Images*>(argument);
  const ElfW(Phdr)* first = nullptr;
  for (int i = 0; i < info->dlpi_phnum && first == nullptr; i++) {
    if (info->dlpi_phdr[i].p_type == PT_LOAD) first = &info->dlpi_phdr[i];
  }
  if (first == nullptr) return 0;
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
  images.add(header, name, required);
  return 0;
}

// What dlmopen(3) loaded apart from the program; dl_iterate_phdr() tells of our own namespace only.
void collect_other_namespaces(Images& images) {
  // glibc 2.35: a list of namespaces, if there are several (link.h).
  const auto* own = static_cast<const r_debug_extended*>(dlsym(RTLD_DEFAULT, "_r_debug"));
  if (own == nullptr || own->base.r_version < 2) return;
  const r_debug_extended* space = own->r_next;
  for (; space != nullptr; space = space->r_next) {
    for (const link_map* map = space->base.r_map; map != nullptr; map = map->l_next) {
      Dl_info place = {};
      if (dladdr(map->l_ld, &place) == 0 || place.dli_fbase == nullptr) continue;
      images.add(place.dli_fbase, map->l_name, false);
    }
  }
}

bool patch_all() {
  static constinit Images images;
  images.count = 0;
  dl_iterate_phdr(collect_image, &images);
  collect_other_namespaces(images);
  PatchOptions options = {};
  options.gate_entry = reinterpret_cast<const void*>(weft_gate_entry);
  options.cache_directory = g_cache_directory[0] == 0 ? nullptr : g_cache_directory;
  PatchReport report = {};
  return patch_images({images.refs, images.count}, options, report) || decline(report.error);
}

// Threads that do not ask for a stack size get this one.
void set_default_stack_size(size_t bytes) {
  pthread_attr_t attributes;
  if (pthread_getattr_default_np(&attributes) != 0) return;
  pthread_attr_setstacksize(&attributes, bytes);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

void prepare() {
  g_runtime.options.workers = g_config.workers;
  g_runtime.options.blocking_max = g_config.blocking_max;
  g_runtime.options.stats = g_config.stats;
  g_runtime.options.follow = g_config.follow;
  g_runtime.hooks.resume_frame = weft_resume_frame;
  g_runtime.hooks.abandon_call = abandon_call;
  if (g_config.intercept != Intercept::dispatch) {
    g_runtime.hooks.executable_mapped = note_executable_mapping;
    g_runtime.hooks.descriptor_closing = patch_mapped_object;
  }
  g_runtime.hooks.restart = [] {
    g_runtime.rseq_area = 0;  // unregistered before the fork
    return start_runtime() == nullptr;
  };
  if (&__rseq_size != nullptr && __rseq_size != 0) {
    g_runtime.rseq_area =
        platform::read_thread_pointer() + static_cast<uintptr_t>(__rseq_offset);
  }
  set_late_object_options({reinterpret_cast<const void*>(weft_gate_entry),
                           g_cache_directory[0] == 0 ? nullptr : g_cache_directory, false});
  if (g_config.intercept != Intercept::patch) {
    g_runtime.hooks.kernel_thread_started = start_user_dispatch;
    prepare_user_dispatch(g_config.intercept == Intercept::audit,
                          auxiliary(AT_SYSINFO_EHDR));
  }
}

bool become_live() {
  if (!can_be_served()) return false;
  prepare();
  if (const char* why = start_runtime(); why != nullptr) return decline(why);
  if (g_config.intercept != Intercept::dispatch && !patch_all()) {
    g_runtime.live = false;
    current_worker()->intercepting = 0;
    return_signals(*g_runtime.main_thread);
    return false;
  }
  if (g_config.stack_bytes != 0) set_default_stack_size(g_config.stack_bytes);
  return true;
}

[[gnu::constructor]] void on_load(int, char**, char** environment) {
  remember_auxiliary(environment);
  platform::set_vdso(auxiliary(AT_SYSINFO_EHDR));
  read_config(environment, g_config);
  if (g_config.cache && !site_cache_directory(variable(environment, "XDG_CACHE_HOME"),
                                              variable(environment, "HOME"), g_cache_directory)) {
    g_cache_directory[0] = 0;
  }
  Dl_info self = {};
  if (!g_config.follow && dladdr(__ehdr_start, &self) != 0) {
    leave_preload_list(environment, self.dli_fname);
  }
}

}  // namespace

void boot() {
  // Relaxed, here and below: decided while the process has one kernel thread; others come later.
  const BootState state = g_state.load(std::memory_order_relaxed);
  // The child of a fork has no dispatch any more, so its thread would be born behind our back.
  if (state == BootState::live && !g_runtime.live && g_config.intercept == Intercept::dispatch) {
    g_runtime.hooks.restart();
  }
  if (state != BootState::untried) return;
  // Booting may itself create no thread, but libc may call back through a door.
  g_state.store(BootState::booting, std::memory_order_relaxed);
  g_state.store(become_live() ? BootState::live : BootState::declined, std::memory_order_relaxed);
}

}  // namespace weft::preload
