// call_table.h - calls.def as a constant array: from a number to name, disposition and handler.
// Guarantee: constant data only. No constructor runs before the first lookup, and with hidden
// visibility the loader's only work is relative relocations. Any kernel thread may read it at any
// time; the gate does so on every call. The rows: calls.def. A handler's argument: call_frame.h.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syscalls/call_frame.h"

namespace weft {

// What a call means for a fiber; the words and their meaning stand at the head of calls.def.
enum class Disposition : uint8_t { pass, complete, emulate, compose, offload, refuse, bind };

using Handler = Result (*)(CallFrame& frame);

struct CallInfo {
  const char* name;
  Disposition disposition;
  Handler handler;
  const char* note;
};
// A power of two: the gate's index is a shift.
static_assert(sizeof(CallInfo) == 32);

// -fvisibility does not reach declarations: without this, each use would go through the GOT.
#pragma GCC visibility push(hidden)

// The handlers that rows share. pass: the kernel's own answer, on this worker. offload: the same on
// the blocking pool, the fiber parked. bind: gives the fiber a kernel thread of its own, then pass.
Result pass(CallFrame& frame);
Result offload(CallFrame& frame);
Result bind(CallFrame& frame);
// For every number without a row: counts it, then pass.
Result pass_unknown(CallFrame& frame);

// The handlers of one row each. (The shared ones are declared once more by their rows: harmless.)
#define WEFT_CALL(number, name, disposition, handler, note) Result handler(CallFrame& frame);
#include "syscalls/calls.def"

#pragma GCC visibility pop

namespace call_table_internal {

// Never defined: to reach it in a constant expression is the compile error for a misspelt word.
void no_such_disposition();

constexpr bool same_word(const char* a, const char* b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}

constexpr Disposition disposition_named(const char* word) {
  if (same_word(word, "PASS")) return Disposition::pass;
  if (same_word(word, "COMPLETE")) return Disposition::complete;
  if (same_word(word, "EMULATE")) return Disposition::emulate;
  if (same_word(word, "COMPOSE")) return Disposition::compose;
  if (same_word(word, "OFFLOAD")) return Disposition::offload;
  if (same_word(word, "REFUSE")) return Disposition::refuse;
  if (same_word(word, "BIND")) return Disposition::bind;
  no_such_disposition();
  return Disposition::pass;
}

constexpr uint32_t count_numbers() {
  uint32_t last = 0;
#define WEFT_CALL(number, name, disposition, handler, note) last = number;
#include "syscalls/calls.def"
  return last + 1;
}

}  // namespace call_table_internal

// One more than the highest number with a row.
inline constexpr uint32_t kCallCount = call_table_internal::count_numbers();

// What a number without a row is.
inline constexpr CallInfo kUnknownCall{"unknown", Disposition::pass, pass_unknown,
                                       "no row names it"};

namespace call_table_internal {

struct Rows {
  CallInfo by_number[kCallCount];
};

constexpr Rows make_rows() {
  Rows rows{};
  for (CallInfo& row : rows.by_number) row = kUnknownCall;
#define WEFT_CALL(number, name, disposition, handler, note) \
  rows.by_number[number] = CallInfo{#name, disposition_named(#disposition), handler, note};
#include "syscalls/calls.def"
  return rows;
}

inline constexpr Rows kRows = make_rows();

}  // namespace call_table_internal

// Returns the row of a call; kUnknownCall's content for a gap or a number beyond the table.
constexpr const CallInfo& call_info(uint64_t number) {
  return number < kCallCount ? call_table_internal::kRows.by_number[number] : kUnknownCall;
}

// Returns whether calls.def has a row for the number.
constexpr bool is_known_call(uint64_t number) {
  return call_info(number).handler != pass_unknown;
}

// Returns the disposition's word as calls.def writes it, for traces and counters.
constexpr const char* disposition_word(Disposition disposition) {
  switch (disposition) {
    case Disposition::pass:
      return "PASS";
    case Disposition::complete:
      return "COMPLETE";
    case Disposition::emulate:
      return "EMULATE";
    case Disposition::compose:
      return "COMPOSE";
    case Disposition::offload:
      return "OFFLOAD";
    case Disposition::refuse:
      return "REFUSE";
    case Disposition::bind:
      return "BIND";
  }
  return "?";
}

}  // namespace weft
