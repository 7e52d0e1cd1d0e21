// config.h - the WEFT_* variables of the environment, checked.
// Read once, at load: later the program may have written over its environment (setproctitle(3)).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft::preload {

enum class Intercept : uint8_t {
  patch,     // patched sites (the default)
  audit,     // patched sites, and Syscall User Dispatch names what they miss
  dispatch,  // Syscall User Dispatch serves everything
};

struct Config {
  uint32_t workers = 0;       // WEFT_WORKERS, 1 to 64; 0: one per usable CPU
  uint32_t blocking_max = 0;  // WEFT_BLOCKING_MAX, 1 to 1024; 0: the default
  uint64_t stack_bytes = 0;   // WEFT_STACK_SIZE; 0: what libc asks for
  Intercept intercept = Intercept::patch;  // WEFT_INTERCEPT
  bool stats = false;         // WEFT_STATS=1
  bool follow = true;         // WEFT_FOLLOW=0: programs executed from here run natively
  bool verbose = false;       // WEFT_VERBOSE=1: say why the runtime stays out
  bool cache = true;          // WEFT_CACHE=0: no site tables on disk
  bool off = false;           // WEFT=0
  bool told = false;          // kToldVariable is there
  // Not empty: a variable is malformed. Which, what it holds and what is allowed, in one phrase.
  char complaint[256] = {};
};

// The mark by which a process tells its descendants that the user knows why weft stays out.
inline constexpr const char* kToldVariable = "WEFT_TOLD";

void read_config(const char* const* environment, Config& config);

// The value of a variable, or null.
const char* variable(const char* const* environment, const char* name);

// Takes the library that lies at `path` out of LD_PRELOAD, so that programs executed from here are
// loaded without it. Other libraries stay; with none left the variable goes. In place, no malloc.
void leave_preload_list(char** environment, const char* path);

}  // namespace weft::preload
