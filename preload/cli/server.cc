// server.cc - the server under test (server.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/server.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "preload/cli/errors.h"
#include "preload/cli/text.h"

namespace weft::cli {
namespace {

constexpr std::chrono::milliseconds kPollPeriod{10};
constexpr std::chrono::seconds kKillLimit{10};
constexpr size_t kLinesShown = 8;
constexpr off_t kOutputReadMax = 1 << 16;

// A file without a name: the server may write as much as natively, and nothing is left behind.
FileDescriptor anonymous_file() {
  std::error_code error;
  std::string path = std::filesystem::temp_directory_path(error) / "weft-compare-XXXXXX";
  // O_APPEND: the server's processes share the file, and must not overwrite each other.
  FileDescriptor file(mkostemp(path.data(), O_CLOEXEC | O_APPEND));
  if (file.get() < 0) throw Failure(path + ": " + std::strerror(errno));
  unlink(path.c_str());
  return file;
}

bool connects(const sockaddr* address, socklen_t bytes) {
  const FileDescriptor fd(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return false;
  // Bounds connect(2), by socket(7).
  const timeval limit{1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return connect(fd.get(), address, bytes) == 0;
}

int64_t switches(const rusage& usage) {
  return usage.ru_nvcsw + usage.ru_nivcsw;
}

}  // namespace

ReadyAddress ReadyAddress::parse(const std::string& text) {
  ReadyAddress address;
  address.text_ = text;
  if (text.rfind("unix:", 0) == 0 && text.size() > 5) {
    address.path_ = text.substr(5);
    if (address.path_.size() < sizeof(sockaddr_un::sun_path)) return address;
    throw UsageError("--ready=" + text + ": the path is too long for a socket");
  }
  if (text.rfind("tcp:", 0) == 0) {
    const size_t colon = text.rfind(':');
    address.port_ = text.substr(colon + 1);
    address.host_ = colon > 4 ? text.substr(4, colon - 4) : "localhost";
    parse_number("--ready=" + text + ": port", address.port_, 1, 65535);
    return address;
  }
  throw UsageError("--ready=" + text + ": must be tcp:PORT, tcp:HOST:PORT or unix:PATH");
}

bool ReadyAddress::answers() const {
  if (!path_.empty()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path_.begin(), path_.end(), address.sun_path);
    return connects(reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host_.c_str(), port_.c_str(), &hints, &found) != 0) return false;
  bool answered = false;
  for (const addrinfo* info = found; info != nullptr && !answered; info = info->ai_next) {
    answered = connects(info->ai_addr, info->ai_addrlen);
  }
  freeaddrinfo(found);
  return answered;
}

Server::Server(const Launch& launch, bool under_weft, const ServerOptions& options)
    : output_(anonymous_file()), options_(options) {
  ChildSetup setup;
  setup.output_fd = output_.get();
  setup.cpus = options.cpus;
  setup.exec = [&launch, under_weft] { exec_launch(launch, under_weft); };
  child_ = std::make_unique<Child>(setup);
}

Server::~Server() {
  try {
    stop();
  } catch (const Failure&) {
    // Nothing more can be done about it here; an error is already on its way.
  }
}

void Server::wait_ready(const ReadyAddress& address) {
  const auto deadline = Clock::now() + options_.ready_limit;
  while (!address.answers()) {
    check_interrupt();
    check_alive();
    if (Clock::now() >= deadline) {
      throw Failure("the server did not open " + address.text() + " within " +
                    std::to_string(options_.ready_limit.count()) + " s; its last lines:\n" +
                    last_lines(output(), kLinesShown));
    }
    // Ends early if the child does.
    if (!child_->wait(kPollPeriod)) continue;
    // A daemon's first process is gone: nothing to wait on but time.
    poll(nullptr, 0, static_cast<int>(kPollPeriod.count()));
  }
  check_alive();
}

void Server::check_alive() {
  if (!child_->wait(std::chrono::milliseconds(0))) return;
  // A server that became a daemon left with status 0, and its processes are ours now.
  if (child_->succeeded() && !tree_.find().empty()) return;
  throw Failure("the server " + child_->ending() + "; its last lines:\n" +
                last_lines(output(), kLinesShown));
}

bool Server::stop() {
  if (stopped_) return true;
  stopped_ = true;
  tree_.exclude_session(0);
  const auto deadline = Clock::now() + options_.stop_limit;
  bool asked_rest = false;
  bool gentle = true;
  if (!child_->ended()) kill(child_->pid(), SIGTERM);
  while (true) {
    const bool ended = child_->wait(kPollPeriod);
    if (ended) {
      reap_adopted();
      if (tree_.find().empty()) break;
      // Processes that outlive the first one: daemons, or workers that their master left behind.
      if (!asked_rest) signal_all(SIGTERM);
      asked_rest = true;
      poll(nullptr, 0, static_cast<int>(kPollPeriod.count()));
    }
    if (Clock::now() >= deadline || interrupt_count() > 1) {
      gentle = false;
      signal_all(SIGKILL);
    }
    // Stuck in the kernel: even SIGKILL waits then.
    if (Clock::now() >= deadline + kKillLimit) throw Failure("the server cannot be killed");
  }
  context_switches_ += switches(child_->usage());
  return gentle;
}

void Server::signal_all(int number) {
  for (const pid_t pid : tree_.find()) kill(pid, number);
}

void Server::reap_adopted() {
  for (const pid_t pid : tree_.find()) {
    rusage usage{};
    if (wait4(pid, nullptr, WNOHANG, &usage) == pid) context_switches_ += switches(usage);
  }
}

std::string Server::output() const {
  struct stat status {};
  if (fstat(output_.get(), &status) != 0) return {};
  const off_t start = std::max<off_t>(0, status.st_size - kOutputReadMax);
  std::string text(static_cast<size_t>(status.st_size - start), '\0');
  const ssize_t bytes = pread(output_.get(), text.data(), text.size(), start);
  text.resize(bytes > 0 ? static_cast<size_t>(bytes) : 0);
  return text;
}

std::string Server::crash() const {
  const int killer = child_->ended() ? child_->killer() : 0;
  const bool asked = killer == SIGTERM || killer == SIGKILL;
  return killer != 0 && !asked ? child_->ending() : std::string();
}

}  // namespace weft::cli
