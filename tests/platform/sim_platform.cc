// sim_platform.cc - the contract suite's access to the simulated world, seeded by the test's seed.
// SPDX-License-Identifier: Apache-2.0
#include "tests/platform/test_platform.h"
#include "tests/platform/test_seed.h"

namespace weft::platform_test {
namespace {

platform::SimOptions all_faults() {
  platform::SimOptions options;
  options.seed = test_seed();
  options.short_probability = 0.3;
  options.delay_probability = 0.3;
  options.cancel_delay_probability = 0.3;
  options.shuffle = true;
  return options;
}

sockaddr_in address_of_port(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

SimPlatform::SimPlatform() : SimPlatform(all_faults()) {}
SimPlatform::SimPlatform(const platform::SimOptions& options)
    : world_(options), netpoller_(world_) {}

bool SimPlatform::step(int64_t deadline_ns) {
  return netpoller_.poll(deadline_ns) != 0 || world_.advance();
}

std::pair<int, int> SimPlatform::make_pipe() {
  return world_.files().make_pipe();
}
std::pair<int, int> SimPlatform::make_stream_pair() {
  return world_.files().make_stream_pair();
}
int SimPlatform::make_socket() {
  return world_.files().make_socket();
}
int SimPlatform::make_file(const std::string& contents) {
  return world_.files().make_file(contents);
}
void SimPlatform::close(int fd) {
  world_.files().close(fd);
}
void SimPlatform::shutdown_write(int fd) {
  world_.files().shutdown_write(fd);
}
sockaddr_in SimPlatform::dead_address() {
  return address_of_port(9);
}

int SimPlatform::make_listener(sockaddr_in& address) {
  uint16_t port = 0;
  const int fd = world_.files().make_listener(port);
  address = address_of_port(port);
  return fd;
}

int SimPlatform::wake_futex(uint32_t& word, int count) {
  return world_.wake_futex(word, count);
}

}  // namespace weft::platform_test
