// test_platform.h - what a platform must lend to the contract suite: a netpoller and the calls that
// the contract leaves to the system (making descriptors, closing them, waking a futex).
// A new platform derives from TestPlatform, adds its class to WEFT_ALL_PLATFORMS, and is done when
// the suite is green.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "platform/linux/netpoller_uring.h"
#include "platform/netpoller.h"
#include "platform/sim/netpoller_sim.h"

namespace weft::platform_test {

using platform::Completion;
using platform::kFilePosition;
using platform::kForever;
using platform::kNow;
using platform::Netpoller;
using platform::Op;
using platform::OpKind;

class TestPlatform {
 public:
  virtual ~TestPlatform() = default;

  virtual Netpoller& netpoller() = 0;
  // One turn of the loop: polls until the deadline, and where time is virtual lets it pass. Returns
  // false when nothing can ever come. A real platform waits for a second at most.
  virtual bool step(int64_t deadline_ns) = 0;

  // Descriptors; closed with the platform. first = the reading end of a pipe.
  virtual std::pair<int, int> make_pipe() = 0;
  virtual std::pair<int, int> make_stream_pair() = 0;
  virtual int make_listener(sockaddr_in& address) = 0;
  virtual int make_socket() = 0;
  virtual int make_file(const std::string& contents) = 0;
  virtual void close(int fd) = 0;
  virtual void shutdown_write(int fd) = 0;
  // An address on which nobody listens.
  virtual sockaddr_in dead_address() = 0;
  virtual int wake_futex(uint32_t& word, int count) = 0;
  // Whether completions of different descriptors arrive in the order of their causes.
  virtual bool is_ordered() const { return true; }
};

// io_uring as this kernel has it.
class UringPlatform : public TestPlatform {
 public:
  UringPlatform() : UringPlatform(platform::UringOptions{}) {}
  ~UringPlatform() override;
  Netpoller& netpoller() override { return netpoller_; }
  bool step(int64_t deadline_ns) override;
  std::pair<int, int> make_pipe() override;
  std::pair<int, int> make_stream_pair() override;
  int make_listener(sockaddr_in& address) override;
  int make_socket() override;
  int make_file(const std::string& contents) override;
  void close(int fd) override;
  void shutdown_write(int fd) override;
  sockaddr_in dead_address() override;
  int wake_futex(uint32_t& word, int count) override;
  platform::UringNetpoller& uring() { return netpoller_; }

 protected:
  explicit UringPlatform(const platform::UringOptions& options);

 private:
  int keep(int fd);
  platform::UringNetpoller netpoller_;
  std::vector<int> open_;
};

// As Linux 5.19 has it: completions are made at system calls, not only when they are asked for.
class CooperativeUringPlatform final : public UringPlatform {
 public:
  CooperativeUringPlatform();
};

// As Linux 5.11 to 5.17 have it: completions by interruption, a visible descriptor, an eventfd.
class OldUringPlatform final : public UringPlatform {
 public:
  OldUringPlatform();
};

// Rings so small that both are always full.
class TinyUringPlatform final : public UringPlatform {
 public:
  TinyUringPlatform();
};

// The simulated world, with every fault switched on.
class SimPlatform final : public TestPlatform {
 public:
  SimPlatform();
  explicit SimPlatform(const platform::SimOptions& options);
  Netpoller& netpoller() override { return netpoller_; }
  bool step(int64_t deadline_ns) override;
  std::pair<int, int> make_pipe() override;
  std::pair<int, int> make_stream_pair() override;
  int make_listener(sockaddr_in& address) override;
  int make_socket() override;
  int make_file(const std::string& contents) override;
  void close(int fd) override;
  void shutdown_write(int fd) override;
  sockaddr_in dead_address() override;
  int wake_futex(uint32_t& word, int count) override;
  bool is_ordered() const override { return false; }
  platform::SimWorld& world() { return world_; }

 private:
  platform::SimWorld world_;
  platform::SimNetpoller netpoller_;
};

#define WEFT_URING_PLATFORMS                                                             \
  ::weft::platform_test::UringPlatform, ::weft::platform_test::CooperativeUringPlatform, \
      ::weft::platform_test::OldUringPlatform, ::weft::platform_test::TinyUringPlatform
#define WEFT_ALL_PLATFORMS WEFT_URING_PLATFORMS, ::weft::platform_test::SimPlatform

// A completion that counts its deliveries, which must end at one.
struct Request : Completion {
  Request();
  explicit Request(const Op& operation);
  int deliveries = 0;
  std::function<void(Request&)> then;
};

// Turns the loop until the condition holds. False: it never will, or not within 20 s.
// deadline_ns: of each poll().
bool drive(TestPlatform& platform, const std::function<bool()>& condition,
           int64_t deadline_ns = kForever);

// Does one operation and returns its result.
int64_t run(TestPlatform& platform, const Op& op);

// Operations, spelled short.
Op read_op(int fd, void* address, size_t length, uint64_t offset = kFilePosition);
Op write_op(int fd, const void* address, size_t length, uint64_t offset = kFilePosition);
Op receive_op(int fd, void* address, size_t length, unsigned flags = 0);
Op send_op(int fd, const void* address, size_t length, unsigned flags = 0);
Op message_op(OpKind kind, int fd, msghdr& message, unsigned flags = 0);
Op accept_op(int fd, sockaddr_in* address = nullptr, socklen_t* length = nullptr);
Op connect_op(int fd, const sockaddr_in& address);
Op poll_op(int fd, unsigned events);
Op futex_op(uint32_t& word, uint32_t expected);

// Repeats send or write until all is gone, receive or read until `length` bytes are there or EOF.
bool send_all(TestPlatform& platform, int fd, const std::string& text);
std::string receive_all(TestPlatform& platform, int fd, size_t length);

}  // namespace weft::platform_test
