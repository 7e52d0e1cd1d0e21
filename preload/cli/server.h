// server.h - one life of the server under test: start, wait until it answers, stop.
// Guarantee: when the object is gone, so is every process that the server made. All waits are
// bounded: SIGTERM first, SIGKILL after `stop_seconds` or at the user's second Ctrl-C.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "preload/cli/child.h"
#include "preload/cli/process_tree.h"
#include "preload/cli/run.h"

namespace weft::cli {

// `tcp:PORT`, `tcp:HOST:PORT` or `unix:PATH`.
class ReadyAddress {
 public:
  // Throws UsageError for another form.
  static ReadyAddress parse(const std::string& text);
  const std::string& text() const { return text_; }
  // Whether a connection is accepted now.
  bool answers() const;

 private:
  std::string text_;
  std::string path_;
  std::string host_;
  std::string port_;
};

struct ServerOptions {
  std::chrono::seconds ready_limit;
  std::chrono::seconds stop_limit;
  std::optional<cpu_set_t> cpus;
};

class Server {
 public:
  Server(const Launch& launch, bool under_weft, const ServerOptions& options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Throws Failure, with the server's last lines, if it ends or does not answer in time.
  void wait_ready(const ReadyAddress& address);
  // Throws Failure, with its last lines, if no process of the server is left.
  void check_alive();
  // Ends all processes of the server. False: it had to be killed.
  bool stop();
  // After stop(): context switches of the whole life of all its processes.
  int64_t context_switches() const { return context_switches_; }
  ProcessTree& tree() { return tree_; }
  std::string output() const;
  // After stop(): how its first process crashed, as `was killed by signal 11 (...)`; else empty.
  std::string crash() const;

 private:
  void reap_adopted();
  void signal_all(int number);

  FileDescriptor output_;
  ServerOptions options_;
  ProcessTree tree_;
  std::unique_ptr<Child> child_;
  bool stopped_ = false;
  int64_t context_switches_ = 0;
};

}  // namespace weft::cli
