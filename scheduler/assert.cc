// assert.cc - the last words of a corrupt runtime.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/assert.h"

#include "platform/os.h"
#include "scheduler/text.h"

namespace weft {

void panic(const char* what, int64_t first, int64_t second) {
  Text<512> line;
  line.append("weft: panic: ").append(what);
  line.append(": ").append_number(first).append(", ").append_number(second).append("\n");
  line.write_error();
  platform::die();
}

}  // namespace weft
