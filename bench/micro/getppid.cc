// getppid - what does a call that only passes through cost? Under weft minus natively is the price
// of the gate. getppid: libc's function; syscall_getppid: libc's syscall(), whose one instruction
// serves every number. thread_getppid: the former from a second thread.
// SPDX-License-Identifier: Apache-2.0
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/micro/micro.h"

namespace {

uint64_t by_function(uint64_t operations) {
  const pid_t parent = getppid();
  uint64_t same = 0;
  for (uint64_t i = 0; i < operations; ++i) same += getppid() == parent ? 1 : 0;
  micro::expect(same == operations, "getppid() is constant");
  return operations;
}

uint64_t by_number(uint64_t operations) {
  const long parent = getppid();
  uint64_t same = 0;
  for (uint64_t i = 0; i < operations; ++i) same += syscall(SYS_getppid) == parent ? 1 : 0;
  micro::expect(same == operations, "syscall(SYS_getppid) is getppid()");
  return operations;
}

void* measure_in_thread(void* plan) {
  micro::measure("thread_getppid", *static_cast<const micro::Plan*>(plan), by_function);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  micro::Plan plan = micro::parse_plan(argc, argv, 200000);
  micro::start_and_join_one();
  micro::measure("getppid", plan, by_function);
  micro::measure("syscall_getppid", plan, by_number);
  micro::join_thread(micro::start_thread(measure_in_thread, &plan));
}
