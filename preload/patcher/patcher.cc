// patcher.cc - plan all, check all, write all; and take it back if a write fails.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/patcher.h"

#include <errno.h>

#include <atomic>

#include "preload/patcher/code_writer.h"
#include "preload/patcher/elf_image.h"
#include "preload/patcher/memory.h"
#include "preload/patcher/site_cache.h"
#include "preload/patcher/site_scanner.h"
#include "preload/patcher/stub_arena.h"
#include "preload/patcher/stub_writer.h"

namespace weft::preload {
namespace {

using platform::address_of;
using platform::system_call;

constexpr size_t kImagesMax = 4096;
constexpr size_t kPlansMax = 4 * kSitesMax;

// Newest first. Stored with release by the patching thread, loaded with acquire by the lookups.
constinit std::atomic<const PatchedImage*> newest_image{nullptr};

// One object on its way through the phases.
struct Work {
  ElfImage image;
  const char* name;
  size_t first_plan;
  size_t plan_count;
  PatchedImage* record;  // followed by its sites in the same mapping
  size_t record_bytes;
  uint8_t* stub_buffer;
  size_t stub_buffer_bytes;
  size_t stub_bytes;
};

// These keep no vector register alive over a system call; a test proves it for the builds at hand.
bool keeps_no_vector_alive(const ElfImage& image) {
  constexpr size_t kBound = 64;
  return text_starts_with(image.soname(), "libc.so.6", kBound) ||
         text_starts_with(image.soname(), "ld-linux", kBound) ||
         text_starts_with(image.soname(), "libgomp.so", kBound);
}

// No handler may run while code is half written.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    const uint64_t all = ~uint64_t{0};
    system_call(SYS_rt_sigprocmask, kSetMask, address_of(&all), address_of(&before_), sizeof all);
  }
  ~SignalsBlocked() {
    system_call(SYS_rt_sigprocmask, kSetMask, address_of(&before_), 0, sizeof before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  static constexpr long kSetMask = 2;  // SIG_SETMASK
  uint64_t before_ = 0;
};

// Code was changed through another mapping of the page; the SDM (volume 3, "Handling Self- and
// Cross-Modifying Code") wants a serializing instruction before it is executed.
void serialize_processor() {
  uint32_t a = 0;
  uint32_t c = 0;
  uint32_t b;
  uint32_t d;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

class Patch {
 public:
  Patch(const PatchOptions& options, PatchReport& report)
      : options_(options),
        report_(report),
        cache_(options.cache_directory),
        error_(report.error, sizeof report.error),
        works_(kImagesMax),
        plans_(kPlansMax) {}
  ~Patch();
  Patch(const Patch&) = delete;
  Patch& operator=(const Patch&) = delete;

  bool run(std::span<const ImageRef> images) {
    for (const ImageRef& image : images) {
      if (!plan(image)) return false;
    }
    for (size_t i = 0; i < works_.size(); ++i) {
      if (!build(works_[i])) return false;
    }
    return write_all();
  }

 private:
  bool plan(const ImageRef& ref);
  bool judge(const ImageRef& ref, const Work& work, const ScanCounts& counts);
  bool build(Work& work);
  bool write_all();
  bool check_originals(const Work& work);
  long write_windows(const Work& work, CodeWriter& writer, bool restore);
  void publish();

  std::span<const SitePlan> plans_of(const Work& work) const {
    return plans_.values().subspan(work.first_plan, work.plan_count);
  }
  static Site* sites_of(const Work& work) { return reinterpret_cast<Site*>(work.record + 1); }

  const PatchOptions& options_;
  PatchReport& report_;
  SiteCache cache_;
  TextLine error_;
  BoundedTable<Work> works_;
  BoundedTable<SitePlan> plans_;
  bool published_ = false;
};

Patch::~Patch() {
  for (size_t i = 0; i < works_.size(); ++i) {
    const Work& work = works_[i];
    if (work.stub_buffer != nullptr) unmap(work.stub_buffer, work.stub_buffer_bytes);
    if (work.record != nullptr && !published_) unmap(work.record, work.record_bytes);
  }
}

bool Patch::plan(const ImageRef& ref) {
  ++report_.images;
  Work work{};
  work.name = ref.name == nullptr ? "" : ref.name;
  if (!ElfImage::parse(ref.elf_header, SIZE_MAX, work.image)) {
    ++report_.images_skipped;
    if (!ref.required) return true;
    error_.add("cannot read the ELF headers of ").add(work.name).add("; report this object");
    return false;
  }
  work.first_plan = plans_.size();
  ScanCounts counts{};
  if (cache_.load(work.image, plans_, counts)) {
    ++report_.images_from_cache;
  } else {
    SiteScanner scanner(work.image, in_stub_arena);
    if (!scanner.scan(plans_, counts)) {
      error_.add("no memory, or too many system call sites in ").add(work.name);
      return false;
    }
    work.plan_count = plans_.size() - work.first_plan;
    // A table made of changed code would be wrong for the next process.
    if (counts.already_patched == 0) cache_.store(work.image, plans_of(work), counts);
  }
  work.plan_count = plans_.size() - work.first_plan;
  if (!judge(ref, work, counts)) return false;
  if (work.plan_count == 0 || works_.push(work)) return true;
  error_.add("too many objects to patch: ").add_number(kImagesMax, 10).add(" is the limit");
  return false;
}

// Adds to the report, and refuses a required object with a site that cannot be taken.
bool Patch::judge(const ImageRef& ref, const Work& work, const ScanCounts& counts) {
  report_.sites += counts.sites;
  report_.already_patched += counts.already_patched;
  report_.left_alone += counts.left_alone;
  report_.unpatchable += counts.unpatchable;
  report_.unproven += counts.unproven;
  if (counts.unpatchable == 0 && counts.unproven == 0) return true;
  const uint64_t from_header =
      counts.unpatchable != 0 ? counts.first_unpatchable : counts.first_unproven;
  const uint64_t offset = from_header + (work.image.header() - work.image.bias());
  if (report_.first_bad_image[0] == '\0') {
    report_.first_bad_offset = offset;
    TextLine(report_.first_bad_image, sizeof report_.first_bad_image).add(work.name);
  }
  if (!ref.required) return true;
  error_.add(work.name)
      .add("+")
      .add_number(offset, 16)
      .add(counts.unpatchable != 0 ? ": no safe window around this system call"
                                   : ": cannot tell code from data here")
      .add("; this build of the object is not supported");
  return false;
}

// Makes the stubs and the site records, none of which anybody sees yet.
bool Patch::build(Work& work) {
  work.stub_buffer_bytes = align_up((work.plan_count + 1) * kStubBytesMax, kPageBytes);
  work.record_bytes = align_up(sizeof(PatchedImage) + work.plan_count * sizeof(Site), kPageBytes);
  work.stub_buffer = static_cast<uint8_t*>(map_private(work.stub_buffer_bytes));
  work.record = static_cast<PatchedImage*>(map_private(work.record_bytes));
  const uintptr_t stubs = allocate_stubs(work.image, work.stub_buffer_bytes);
  if (work.stub_buffer == nullptr || work.record == nullptr || stubs == 0) {
    error_.add("no free memory within 2 GiB of ").add(work.name);
    return false;
  }
  StubWriter writer({work.stub_buffer, work.stub_buffer_bytes}, stubs,
                    reinterpret_cast<uintptr_t>(options_.gate_entry));
  const uint32_t flags = keeps_no_vector_alive(work.image) ? 0 : kSiteSavesVector;
  Site* site = sites_of(work);
  for (const SitePlan& plan : plans_of(work)) {
    const uintptr_t window = work.image.header() + plan.window;
    StubPlace place{};
    if (!writer.write(plan, window, reinterpret_cast<uintptr_t>(site), place)) {
      error_.add("cannot move the code at ")
          .add(work.name)
          .add("+")
          .add_number(window - work.image.bias(), 16);
      return false;
    }
    const uintptr_t syscall = window + plan.syscall_at;
    *site++ = {reinterpret_cast<const void*>(syscall + kSyscallBytes),
               reinterpret_cast<const void*>(place.resume),
               reinterpret_cast<const void*>(place.inline_call),
               flags,
               plan.number,
               reinterpret_cast<const void*>(place.stub),
               work.record,
               syscall - work.image.bias()};
    report_.intact_windows += plan.keeps_syscall() ? 1 : 0;
    report_.tail_windows += plan.has_tail() ? 1 : 0;
  }
  work.stub_bytes = writer.used();
  PatchedImage& record = *work.record;
  record.sites = sites_of(work);
  record.site_count = work.plan_count;
  record.low = work.image.low();
  record.high = work.image.high();
  record.stubs_begin = stubs;
  record.stubs_end = stubs + work.stub_bytes;
  TextLine(record.name, sizeof record.name).add(work.name);
  return true;
}

// Another patcher (a profiler, a debugger) may have been here since the plan was made.
bool Patch::check_originals(const Work& work) {
  for (const SitePlan& plan : plans_of(work)) {
    const auto* const code = reinterpret_cast<const uint8_t*>(work.image.header() + plan.window);
    if (same_bytes(code, plan.original, plan.checked_bytes)) continue;
    error_.add("the code of ")
        .add(work.name)
        .add(" changed at +")
        .add_number(plan.window + (work.image.header() - work.image.bias()), 16);
    error_.add(" while it was prepared; is another patching tool active?");
    return false;
  }
  return true;
}

bool Patch::write_all() {
  const SignalsBlocked no_handlers;
  CodeWriter writer(options_.protection_only);
  for (size_t i = 0; i < works_.size(); ++i) {
    const Work& work = works_[i];
    const long result = writer.write(work.record->stubs_begin, work.stub_buffer, work.stub_bytes);
    if (result != 0) {
      error_.add("the system refuses to write stubs (errno ")
          .add_number(static_cast<uint64_t>(-result), 10)
          .add("); allow /proc/self/mem or mprotect");
      return false;
    }
  }
  for (size_t i = 0; i < works_.size(); ++i) {
    if (!check_originals(works_[i])) return false;
  }
  publish();
  for (size_t i = 0; i < works_.size(); ++i) {
    const long result = write_windows(works_[i], writer, false);
    if (result == 0) {
      report_.patched += static_cast<uint32_t>(works_[i].plan_count);
      continue;
    }
    // Take back what is written, the half-written object included. Stubs and records stay: they
    // are unreachable, and harmless.
    for (size_t j = 0; j <= i; ++j) write_windows(works_[j], writer, true);
    report_.patched = 0;
    error_.add("the system refuses to write the code of ")
        .add(works_[i].name)
        .add(" (errno ")
        .add_number(static_cast<uint64_t>(-result), 10)
        .add("); allow /proc/self/mem or mprotect");
    serialize_processor();
    return false;
  }
  serialize_processor();
  return true;
}

// Before the first window is written, so that whoever comes from a site can be named.
void Patch::publish() {
  for (size_t i = 0; i < works_.size(); ++i) {
    const Work& work = works_[i];
    work.record->next = newest_image.load(std::memory_order_relaxed);  // only we write it
    system_call(SYS_mprotect, address_of(work.record), static_cast<long>(work.record_bytes),
                PROT_READ);
    // Release: the record is complete before a lookup, which loads with acquire, can find it.
    newest_image.store(work.record, std::memory_order_release);
  }
  published_ = true;
}

// Page by page: libc's 526 windows lie on 60 pages, and each write is a system call.
long Patch::write_windows(const Work& work, CodeWriter& writer, bool restore) {
  const std::span<const SitePlan> plans = plans_of(work);
  uint8_t buffer[kPageBytes + kOriginalBytesMax];
  for (size_t i = 0; i < plans.size();) {
    const uintptr_t begin = work.image.header() + plans[i].window;
    const uintptr_t page_end = align_down(begin, kPageBytes) + kPageBytes;
    size_t last = i;
    while (last + 1 < plans.size() && work.image.header() + plans[last + 1].window < page_end)
      ++last;
    const size_t bytes =
        work.image.header() + plans[last].window + plans[last].window_bytes - begin;
    __builtin_memcpy(buffer, reinterpret_cast<const void*>(begin), bytes);
    for (; i <= last; ++i) {
      const SitePlan& plan = plans[i];
      const uintptr_t window = work.image.header() + plan.window;
      uint8_t* const code = buffer + (window - begin);
      if (restore) {
        __builtin_memcpy(code, plan.original, plan.window_bytes);
        continue;
      }
      const uintptr_t stub = reinterpret_cast<uintptr_t>(sites_of(work)[i].stub);
      const auto offset = static_cast<int32_t>(stub - (window + kJumpBytes));
      __builtin_memset(code, 0xcc, plan.window_bytes);
      code[0] = 0xe9;
      __builtin_memcpy(code + 1, &offset, sizeof offset);
    }
    const long result = writer.write(begin, buffer, bytes);
    if (result != 0) return result;
  }
  return 0;
}

// The last site whose key is not above `value`, among ascending ones.
template <typename Key>
const Site* last_not_above(const PatchedImage& image, uintptr_t value, Key&& key) {
  size_t low = 0;
  size_t high = image.site_count;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (reinterpret_cast<uintptr_t>(key(image.sites[middle])) <= value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low == 0 ? nullptr : &image.sites[low - 1];
}

}  // namespace

bool patch_images(std::span<const ImageRef> images, const PatchOptions& options,
                  PatchReport& report) {
  report = PatchReport{};
  Patch patch(options, report);
  return patch.run(images);
}

bool is_stub_address(uintptr_t address) {
  return in_stub_arena(address);
}

const PatchedImage* patched_images() {
  return newest_image.load(std::memory_order_acquire);
}

const Site* site_of_stub(uintptr_t address) {
  for (const PatchedImage* image = patched_images(); image != nullptr; image = image->next) {
    if (address < image->stubs_begin || address >= image->stubs_end) continue;
    return last_not_above(*image, address, [](const Site& site) { return site.stub; });
  }
  return nullptr;
}

const Site* site_at_pc(uintptr_t pc) {
  for (const PatchedImage* image = patched_images(); image != nullptr; image = image->next) {
    if (pc < image->low || pc >= image->high) continue;
    const Site* const site = last_not_above(*image, pc, [](const Site& s) { return s.pc; });
    if (site != nullptr && reinterpret_cast<uintptr_t>(site->pc) == pc) return site;
  }
  return nullptr;
}

}  // namespace weft::preload
