// config.cc - reading WEFT_* (config.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/config.h"

#include "scheduler/text.h"

namespace weft::preload {
namespace {

bool parse_number(const char* text, uint64_t& number) {
  if (*text == 0) return false;
  number = 0;
  for (; *text != 0; text++) {
    if (*text < '0' || *text > '9' || number > UINT64_MAX / 10 - 10) return false;
    number = number * 10 + static_cast<uint64_t>(*text - '0');
  }
  return true;
}

class Reader {
 public:
  Reader(const char* const* environment, Config& config)
      : environment_(environment), config_(config) {}

  template <typename Number>
  void number(const char* name, uint64_t least, uint64_t most, const char* allowed,
              Number& value) {
    const char* text = variable(environment_, name);
    if (text == nullptr) return;
    uint64_t parsed = 0;
    if (!parse_number(text, parsed) || parsed < least || parsed > most) {
      complain(name, text, allowed);
      return;
    }
    value = static_cast<Number>(parsed);
  }
  void flag(const char* name, bool& value) {
    const char* text = variable(environment_, name);
    if (text == nullptr) return;
    if (!text_equal(text, "0") && !text_equal(text, "1")) {
      complain(name, text, "0 or 1");
      return;
    }
    value = text_equal(text, "1");
  }
  void intercept(const char* name, Intercept& value) {
    const char* text = variable(environment_, name);
    if (text == nullptr) return;
    if (text_equal(text, "patch")) {
      value = Intercept::patch;
    } else if (text_equal(text, "audit")) {
      value = Intercept::audit;
    } else if (text_equal(text, "dispatch")) {
      value = Intercept::dispatch;
    } else {
      complain(name, text, "patch, audit or dispatch");
    }
  }

 private:
  // The first complaint is the one that is told.
  void complain(const char* name, const char* value, const char* allowed) {
    if (config_.complaint[0] != 0) return;
    constexpr size_t kShownMax = 100;
    Text<kShownMax> shown;
    shown.append(value);
    Text<sizeof config_.complaint> text;
    text.append(name).append("=").append(shown.c_str());
    if (text_length(value) >= kShownMax) text.append("...");
    text.append(": must be ").append(allowed);
    for (size_t i = 0; i <= text.length(); i++) config_.complaint[i] = text.c_str()[i];
  }

  const char* const* environment_;
  Config& config_;
};

// The variable's entry in the environment, or null.
char** find_entry(char** environment, const char* name) {
  const size_t length = text_length(name);
  for (; *environment != nullptr; environment++) {
    const char* entry = *environment;
    size_t i = 0;
    while (i < length && entry[i] == name[i]) i++;
    if (i == length && entry[i] == '=') return environment;
  }
  return nullptr;
}

bool separates(char c) { return c == ':' || c == ' '; }

const char* file_name(const char* path) {
  const char* name = path;
  for (; *path != 0; path++) {
    if (*path == '/') name = path + 1;
  }
  return name;
}

// Whether the entry [begin, end) names the library: by its file, whatever the way to it.
bool names_library(const char* begin, const char* end, const char* library) {
  for (const char* at = begin; at < end; at++) {
    if (*at == '/') begin = at + 1;
  }
  while (begin < end && *begin == *library) {
    begin++;
    library++;
  }
  return begin == end && *library == 0;
}

}  // namespace

const char* variable(const char* const* environment, const char* name) {
  char** entry = find_entry(const_cast<char**>(environment), name);
  return entry == nullptr ? nullptr : *entry + text_length(name) + 1;
}

void read_config(const char* const* environment, Config& config) {
  Reader reader(environment, config);
  bool on = true;
  reader.flag("WEFT", on);
  reader.number("WEFT_WORKERS", 1, 64, "a number from 1 to 64", config.workers);
  reader.number("WEFT_BLOCKING_MAX", 1, 1024, "a number from 1 to 1024", config.blocking_max);
  reader.number("WEFT_STACK_SIZE", 16384, uint64_t{1} << 40,
                "a number of bytes from 16384 to 1099511627776", config.stack_bytes);
  reader.intercept("WEFT_INTERCEPT", config.intercept);
  reader.flag("WEFT_STATS", config.stats);
  reader.flag("WEFT_FOLLOW", config.follow);
  reader.flag("WEFT_VERBOSE", config.verbose);
  reader.flag("WEFT_CACHE", config.cache);
  config.off = !on;
  config.told = variable(environment, kToldVariable) != nullptr;
}

void leave_preload_list(char** environment, const char* path) {
  char** entry = find_entry(environment, "LD_PRELOAD");
  if (entry == nullptr) return;
  const char* library = file_name(path);
  char* const list = *entry + text_length("LD_PRELOAD=");
  char* kept = list;
  for (const char* begin = list; *begin != 0;) {
    const char* end = begin;
    while (*end != 0 && !separates(*end)) end++;
    const char* next = *end == 0 ? end : end + 1;
    if (begin != end && !names_library(begin, end, library)) {
      if (kept != list) *kept++ = ':';
      // Towards the front: what is read lies at or behind what is written.
      while (begin < end) *kept++ = *begin++;
    }
    begin = next;
  }
  const bool empty = kept == list;
  *kept = 0;
  for (; empty && *entry != nullptr; entry++) *entry = entry[1];
}

}  // namespace weft::preload
