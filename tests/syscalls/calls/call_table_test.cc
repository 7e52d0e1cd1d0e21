// call_table_test.cc - what call_table.h promises, as static assertions and one lookup.
// Built with the gate's own options: that it compiles is the first half of the test. The second is
// guest_object_test.py, which looks at the object file: constant data, no constructor, nothing from
// outside but the handlers. It is never linked or run.
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/call_table.h"

namespace weft {
namespace {

using call_table_internal::same_word;

// The ends of the table, its gap, and what lies beyond it.
static_assert(same_word(call_info(0).name, "read") && call_info(0).handler == &sys_read);
static_assert(is_known_call(kCallCount - 1));
static_assert(is_known_call(336) && !is_known_call(337) && !is_known_call(423));
static_assert(is_known_call(424) && same_word(call_info(424).name, "pidfd_send_signal"));
static_assert(!is_known_call(kCallCount) && !is_known_call(~uint64_t{0}));
static_assert(call_info(400).handler == &pass_unknown);
static_assert(call_info(~uint64_t{0}).handler == &pass_unknown);
// x32 numbers have bit 30: not rows.
static_assert(!is_known_call(0x40000000));

// One row of each disposition, and the shared handlers.
static_assert(call_info(39).disposition == Disposition::pass && call_info(39).handler == &pass);
static_assert(call_info(45).disposition == Disposition::complete);
static_assert(call_info(202).disposition == Disposition::emulate);
static_assert(call_info(7).disposition == Disposition::compose);
static_assert(call_info(73).disposition == Disposition::offload &&
              call_info(73).handler == &offload);
static_assert(call_info(272).disposition == Disposition::bind && call_info(272).handler == &bind);
static_assert(same_word(disposition_word(call_info(272).disposition), "BIND"));

// Every row is whole: a name, a handler and a note.
constexpr bool all_whole() {
  for (uint64_t number = 0; number < kCallCount + 8; ++number) {
    const CallInfo& info = call_info(number);
    if (info.name == nullptr || info.handler == nullptr || info.note == nullptr) return false;
  }
  return true;
}
static_assert(all_whole());

}  // namespace

// What the gate does; keeps the table in the object file.
Result dispatch(CallFrame& frame, uint64_t number) {
  return call_info(number).handler(frame);
}

}  // namespace weft
