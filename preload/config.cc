// config.cc - reading WEFT_* (config.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/config.h"

#include "scheduler/text.h"

namespace weft::preload {
namespace {

bool refuse(const char* name, const char* value, const char* allowed) {
  Text<512> line;
  line.append("weft: ").append(name).append("=").append(value).append(": must be ");
  line.append(allowed).append("; the program runs natively\n");
  line.write_error();
  return false;
}

bool parse_number(const char* text, uint64_t& number) {
  if (*text == 0) return false;
  number = 0;
  for (; *text != 0; text++) {
    if (*text < '0' || *text > '9' || number > UINT64_MAX / 10 - 10) return false;
    number = number * 10 + static_cast<uint64_t>(*text - '0');
  }
  return true;
}

struct Reader {
  const char* const* environment;

  bool number(const char* name, uint64_t least, uint64_t most, const char* allowed,
              uint64_t& value) const {
    const char* text = variable(environment, name);
    if (text == nullptr) return true;
    uint64_t parsed = 0;
    if (!parse_number(text, parsed) || parsed < least || parsed > most) {
      return refuse(name, text, allowed);
    }
    value = parsed;
    return true;
  }
  bool flag(const char* name, bool& value) const {
    const char* text = variable(environment, name);
    if (text == nullptr) return true;
    if (!text_equal(text, "0") && !text_equal(text, "1")) return refuse(name, text, "0 or 1");
    value = text_equal(text, "1");
    return true;
  }
};

}  // namespace

const char* variable(const char* const* environment, const char* name) {
  const size_t length = text_length(name);
  for (; environment != nullptr && *environment != nullptr; environment++) {
    const char* entry = *environment;
    size_t i = 0;
    while (i < length && entry[i] == name[i]) i++;
    if (i == length && entry[i] == '=') return entry + i + 1;
  }
  return nullptr;
}

bool read_config(const char* const* environment, Config& config) {
  const Reader reader{environment};
  uint64_t workers = config.workers;
  uint64_t blocking = config.blocking_max;
  bool on = true;
  if (!reader.number("WEFT_WORKERS", 1, 64, "a number from 1 to 64", workers) ||
      !reader.number("WEFT_BLOCKING_MAX", 1, 1024, "a number from 1 to 1024", blocking) ||
      !reader.number("WEFT_STACK_SIZE", 16384, uint64_t{1} << 40,
                     "a number of bytes from 16384 to 1099511627776", config.stack_bytes) ||
      !reader.flag("WEFT_STATS", config.stats) || !reader.flag("WEFT_FOLLOW", config.follow) ||
      !reader.flag("WEFT_VERBOSE", config.verbose) || !reader.flag("WEFT_CACHE", config.cache) ||
      !reader.flag("WEFT", on)) {
    return false;
  }
  config.off = !on;
  config.workers = static_cast<uint32_t>(workers);
  config.blocking_max = static_cast<uint32_t>(blocking);
  if (const char* mode = variable(environment, "WEFT_INTERCEPT"); mode != nullptr) {
    if (text_equal(mode, "patch")) {
      config.intercept = Intercept::patch;
    } else if (text_equal(mode, "audit")) {
      config.intercept = Intercept::audit;
    } else if (text_equal(mode, "dispatch")) {
      config.intercept = Intercept::dispatch;
    } else {
      return refuse("WEFT_INTERCEPT", mode, "patch, audit or dispatch");
    }
  }
  return true;
}

}  // namespace weft::preload
