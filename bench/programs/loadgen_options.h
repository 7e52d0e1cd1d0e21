// loadgen_options.h - the command line of the load generator.
// Guarantee: what parse_options() returns makes sense; else the program ends with its usage.
// Included by loadgen.cc, whose head describes each mode.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "bench/programs/socket.h"

namespace bench {

constexpr size_t kMessageBytesMax = 1 << 20;

enum class Mode { echo, idle, churn };

struct Options {
  uint16_t port = 0;
  size_t connections = 100;
  size_t message_bytes = 64;
  double seconds = 3;
  double warmup_seconds = 1;
  Mode mode = Mode::echo;
  pid_t server = 0;
};

[[noreturn]] inline void usage() {
  std::fprintf(stderr,
               "usage: loadgen -p PORT [-c CONNS] [-s BYTES] [-d SECONDS] [-w WARMUP_SECONDS]\n"
               "               [-m echo|idle|churn] [-P SERVER_PID]   (idle needs -P)\n");
  std::exit(2);
}

inline Options parse_options(int argc, char** argv) {
  Options options;
  std::string mode = "echo";
  for (int option = 0; (option = getopt(argc, argv, "p:c:s:d:w:m:P:")) != -1;) {
    if (option == 'p') {
      options.port = bench::parse_port(optarg, "loadgen -p PORT ...");
    } else if (option == 'c') {
      options.connections = std::strtoul(optarg, nullptr, 10);
    } else if (option == 's') {
      options.message_bytes = std::strtoul(optarg, nullptr, 10);
    } else if (option == 'd') {
      options.seconds = std::strtod(optarg, nullptr);
    } else if (option == 'w') {
      options.warmup_seconds = std::strtod(optarg, nullptr);
    } else if (option == 'm') {
      mode = optarg;
    } else if (option == 'P') {
      options.server = static_cast<pid_t>(std::strtol(optarg, nullptr, 10));
    } else {
      usage();
    }
  }
  options.mode = mode == "idle" ? Mode::idle : mode == "churn" ? Mode::churn : Mode::echo;
  const bool known = mode == "echo" || options.mode != Mode::echo;
  const bool sizes = options.connections > 0 && options.message_bytes > 0 &&
                     options.message_bytes <= kMessageBytesMax && options.seconds > 0 &&
                     options.warmup_seconds >= 0;
  const bool server = options.mode != Mode::idle || options.server > 0;
  if (optind != argc || options.port == 0 || !known || !sizes || !server) usage();
  return options;
}

}  // namespace bench
