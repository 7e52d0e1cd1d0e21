// stub_arena.h - memory for stubs within reach of a 32-bit jump from the object they serve.
// Guarantee: arenas are mapped readable and executable from the start and are never unmapped: a
// thread may stand in a stub at any time. Blocks start on a page of their own, so writing a new
// block never touches a page on which stubs already run.
// allocate_stubs() belongs to the patching thread; in_stub_arena() may run in parallel, also in a
// signal handler.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "preload/patcher/elf_image.h"

namespace weft::preload {

// Address of a page-aligned block, every byte of which reaches every byte of `image` and is reached
// from it; 0 if the system has no such memory left.
uintptr_t allocate_stubs(const ElfImage& image, size_t bytes);

bool in_stub_arena(uintptr_t address);

}  // namespace weft::preload
