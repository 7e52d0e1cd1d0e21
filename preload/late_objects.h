// late_objects.h - objects that the loader maps after the start: their sites are patched as well.
// ld.so maps every segment of an object and then closes its descriptor; until it has relocated and
// linked the object nobody executes its code. So: note the executable mapping, patch at the close.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "preload/patcher/patcher.h"

namespace weft::preload {

void set_late_object_options(const PatchOptions& options);

// `file_offset`: of the mapping in fd. Called by the mmap body; never parks.
void note_executable_mapping(uintptr_t address, size_t bytes, int fd, uint64_t file_offset);
// Called by the close body; never parks.
void patch_mapped_object(int fd);

}  // namespace weft::preload
