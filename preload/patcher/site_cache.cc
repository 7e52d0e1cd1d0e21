// site_cache.cc - the file format and the distrust in it.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/site_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <array>

#include "preload/patcher/window_planner.h"

namespace weft::preload {
namespace {

using platform::address_of;
using platform::system_call;

// Raise it when the record, the decoder or the rules of a window change.
constexpr uint32_t kVersion = 1;
constexpr std::array<char, 8> kMagic = {'W', 'E', 'F', 'T', 'S', 'I', 'T', 'E'};
constexpr size_t kBuildIdBytesMax = 64;
// A build-id shorter than this could meet another one's by chance.
constexpr size_t kBuildIdBytesMin = 8;
constexpr size_t kFileNameBytes = 2 * kBuildIdBytesMax + 40;

struct FileHeader {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t plan_bytes;  // sizeof(SitePlan)
  uint32_t plan_count;
  uint32_t build_id_bytes;
  std::array<uint8_t, kBuildIdBytesMax> build_id;
  uint64_t code_bytes;  // sum over the executable segments
  ScanCounts counts;
  uint64_t checksum;  // of the header with this field zero, then of the plans
};
static_assert(std::has_unique_object_representations_v<FileHeader>);

// FNV-1a. It guards against torn and damaged files, not against a forger: whoever may write here
// is the user.
uint64_t checksum_of(const void* bytes, size_t count, uint64_t hash) {
  const auto* const data = static_cast<const uint8_t*>(bytes);
  for (size_t i = 0; i < count; ++i) hash = (hash ^ data[i]) * 0x100000001b3u;
  return hash;
}

uint64_t checksum_of(const FileHeader& header, const SitePlan* plans) {
  FileHeader copy = header;
  copy.checksum = 0;
  const uint64_t hash = checksum_of(&copy, sizeof copy, 0xcbf29ce484222325u);
  return checksum_of(plans, header.plan_count * sizeof(SitePlan), hash);
}

uint64_t code_bytes_of(const ElfImage& image) {
  uint64_t sum = 0;
  for (const Segment& segment : image.segments()) {
    if ((segment.flags & PF_X) != 0) sum += segment.end - segment.begin;
  }
  return sum;
}

FileHeader make_header(const ElfImage& image, size_t plan_count, const ScanCounts& counts) {
  FileHeader header{};
  header.magic = kMagic;
  header.version = kVersion;
  header.plan_bytes = sizeof(SitePlan);
  header.plan_count = static_cast<uint32_t>(plan_count);
  header.build_id_bytes = static_cast<uint32_t>(image.build_id().size());
  for (size_t i = 0; i < image.build_id().size(); ++i) header.build_id[i] = image.build_id()[i];
  header.code_bytes = code_bytes_of(image);
  header.counts = counts;
  return header;
}

bool cacheable(const ElfImage& image) {
  return image.build_id().size() >= kBuildIdBytesMin && image.build_id().size() <= kBuildIdBytesMax;
}

// Owned by us, of the wanted type, and writable by us only.
bool is_private(long descriptor, unsigned type, struct stat& status) {
  return system_call(SYS_fstat, descriptor, address_of(&status)) == 0 &&
         (status.st_mode & S_IFMT) == type &&
         status.st_uid == static_cast<uid_t>(system_call(SYS_geteuid)) &&
         (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

void close_descriptor(long descriptor) {
  system_call(SYS_close, descriptor);
}

bool read_whole(long descriptor, void* buffer, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const long count =
        system_call(SYS_read, descriptor, address_of(buffer) + static_cast<long>(done),
                    static_cast<long>(bytes - done));
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

bool write_whole(long descriptor, const void* buffer, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const long count =
        system_call(SYS_write, descriptor, address_of(buffer) + static_cast<long>(done),
                    static_cast<long>(bytes - done));
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

// Does the plan describe what the image has in memory, after the previous plan's window?
bool matches_image(const ElfImage& image, const SitePlan& plan, uintptr_t& previous_end) {
  const uintptr_t begin = image.header() + plan.window;
  if (!plan_is_sound(plan) || begin < previous_end ||
      image.code_segment(begin, plan.checked_bytes) == nullptr ||
      !same_bytes(reinterpret_cast<const uint8_t*>(begin), plan.original, plan.checked_bytes)) {
    return false;
  }
  previous_end = begin + plan.window_bytes;
  return true;
}

bool accept_file(const ElfImage& image, const FileHeader& header, const SitePlan* stored,
                 BoundedTable<SitePlan>& plans) {
  FileHeader expected = make_header(image, header.plan_count, header.counts);
  expected.checksum = checksum_of(header, stored);
  if (!same_bytes(reinterpret_cast<const uint8_t*>(&header),
                  reinterpret_cast<const uint8_t*>(&expected), sizeof header)) {
    return false;
  }
  const size_t size_before = plans.size();
  uintptr_t previous_end = 0;
  for (uint32_t i = 0; i < header.plan_count; ++i) {
    if (!matches_image(image, stored[i], previous_end) || !plans.push(stored[i])) {
      plans.truncate(size_before);
      return false;
    }
  }
  return true;
}

}  // namespace

bool site_cache_directory(const char* xdg_cache_home, const char* home,
                          char (&out)[kCachePathBytes]) {
  TextLine line(out, kCachePathBytes);
  if (xdg_cache_home != nullptr && xdg_cache_home[0] == '/') {
    line.add(xdg_cache_home);
  } else if (home != nullptr && home[0] == '/') {
    line.add(home).add("/.cache");
  } else {
    return false;
  }
  line.add("/weft/sites-v1");
  return line.fits();
}

long SiteCache::open_directory() const {
  if (directory_ == nullptr || directory_[0] != '/') return -1;
  const long descriptor = system_call(SYS_openat, AT_FDCWD, address_of(directory_),
                                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (descriptor < 0) return descriptor;
  struct stat status {};
  if (is_private(descriptor, S_IFDIR, status)) return descriptor;
  close_descriptor(descriptor);
  return -1;
}

// The last three components may be missing: the cache home, "weft" and "sites-v1".
void SiteCache::create_directory() const {
  char path[kCachePathBytes];
  TextLine line(path, sizeof path);
  if (!line.add(directory_).fits()) return;
  const size_t length = text_length(path, sizeof path);
  std::array<size_t, 3> ends = {0, 0, length};
  size_t missing = 2;
  for (size_t i = length; i-- > 1 && missing > 0;) {
    if (path[i] == '/') ends[--missing] = i;
  }
  for (const size_t end : ends) {
    if (end == 0) continue;
    const char saved = path[end];
    path[end] = '\0';
    system_call(SYS_mkdir, address_of(path), 0700);
    path[end] = saved;
  }
}

bool SiteCache::load(const ElfImage& image, BoundedTable<SitePlan>& plans,
                     ScanCounts& counts) const {
  if (directory_ == nullptr || !cacheable(image)) return false;
  const long directory = open_directory();
  if (directory < 0) return false;
  char name[kFileNameBytes];
  TextLine(name, sizeof name).add_hex_bytes(image.build_id());
  const long file = system_call(SYS_openat, directory, address_of(name),
                                O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  close_descriptor(directory);
  if (file < 0) return false;

  struct stat status {};
  FileHeader header;
  bool accepted = false;
  constexpr size_t kFileBytesMax = sizeof header + kSitesMax * sizeof(SitePlan);
  if (is_private(file, S_IFREG, status) && status.st_size >= static_cast<off_t>(sizeof header) &&
      status.st_size <= static_cast<off_t>(kFileBytesMax) &&
      read_whole(file, &header, sizeof header) && header.plan_count <= kSitesMax) {
    const size_t bytes = header.plan_count * sizeof(SitePlan);
    BoundedTable<SitePlan> stored(header.plan_count + 1);
    accepted = stored.reserve_all() &&
               static_cast<size_t>(status.st_size) == sizeof header + bytes &&
               read_whole(file, &stored[0], bytes) && accept_file(image, header, &stored[0], plans);
  }
  close_descriptor(file);
  if (accepted) counts = header.counts;
  return accepted;
}

bool SiteCache::store(const ElfImage& image, std::span<const SitePlan> plans,
                      const ScanCounts& counts) const {
  if (directory_ == nullptr || !cacheable(image) || plans.size() > kSitesMax) return false;
  long directory = open_directory();
  if (directory == -ENOENT) {
    create_directory();
    directory = open_directory();
  }
  if (directory < 0) return false;

  char name[kFileNameBytes];
  TextLine(name, sizeof name).add_hex_bytes(image.build_id());
  char temporary[kFileNameBytes];
  TextLine(temporary, sizeof temporary)
      .add(name)
      .add(".")
      .add_number(static_cast<uint64_t>(system_call(SYS_getpid)), 10)
      .add(".tmp");
  bool stored = false;
  const long file = system_call(SYS_openat, directory, address_of(temporary),
                                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file >= 0) {
    FileHeader header = make_header(image, plans.size(), counts);
    header.checksum = checksum_of(header, plans.data());
    stored = write_whole(file, &header, sizeof header) &&
             write_whole(file, plans.data(), plans.size_bytes());
    close_descriptor(file);
    stored = stored && system_call(SYS_renameat, directory, address_of(temporary), directory,
                                   address_of(name)) == 0;
  }
  // Also what a process of the same number left behind when it was killed here.
  if (!stored) system_call(SYS_unlinkat, directory, address_of(temporary), 0);
  close_descriptor(directory);
  return stored;
}

}  // namespace weft::preload
