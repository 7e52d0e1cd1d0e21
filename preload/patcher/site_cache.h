// site_cache.h - site tables kept between runs, one file per build-id, so that start-up need not
// decode libc again.
// Guarantee: a file counts only if it and its directory belong to this user and to nobody else's
// pen, its size, version, build-id and checksum are right, and every record decodes to a sound
// window whose bytes are what the object has in memory. Anything else is ignored: the caller scans.
// A file appears whole (temporary name, then rename) or not at all. No libc call; not thread safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "preload/patcher/elf_image.h"
#include "preload/patcher/memory.h"
#include "preload/patcher/site_plan.h"

namespace weft::preload {

inline constexpr size_t kCachePathBytes = 512;

// Writes ${XDG_CACHE_HOME:-$HOME/.cache}/weft/sites-v1 to `out`. The two are the values of these
// variables or null; as the XDG specification says, a relative path counts as unset.
// False: neither is usable, or the path is too long; then there is no cache.
bool site_cache_directory(const char* xdg_cache_home, const char* home,
                          char (&out)[kCachePathBytes]);

class SiteCache {
 public:
  // directory: absolute path or null, which disables the cache; must outlive the object.
  explicit SiteCache(const char* directory) : directory_(directory) {}

  // Appends the image's plans. False: nothing usable is stored (then nothing was appended).
  bool load(const ElfImage& image, BoundedTable<SitePlan>& plans, ScanCounts& counts) const;
  // Creates the directory if need be. False: not stored, which is no error for anybody.
  bool store(const ElfImage& image, std::span<const SitePlan> plans,
             const ScanCounts& counts) const;

 private:
  // A descriptor of the directory, or negative.
  long open_directory() const;
  void create_directory() const;

  const char* directory_;
};

}  // namespace weft::preload
