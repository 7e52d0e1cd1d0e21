// late_calls.c - a library with system call instructions of its own, to be loaded late.
// held_locks.c and late_objects.c open it; nothing of it goes through libc, so a wait in it can only
// be seen by patching the library itself.
// SPDX-License-Identifier: Apache-2.0
#include <sys/syscall.h>

// Keeps the calls away from the start-up code that linkers put first. That code has no unwind table,
// so near it the patcher takes any byte that may be a short branch for one, and leaves what it would
// lead into as it is.
__attribute__((noinline)) long sum_of_squares(const long* values, long count) {
  long sum = 0;
  for (long i = 0; i < count; i++) {
    sum += values[i] * values[i];
    if (sum > 1000000000) sum -= values[i] / (values[i] % 7 + 8);
    if (sum < -1000000000) sum += values[i] / (values[i] % 5 + 6);
    __asm__ volatile("" : "+r"(sum));
  }
  return sum;
}

static long call(long number, long first, long second, long third) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(first), "S"(second), "d"(third)
                   : "rcx", "r11", "memory");
  return result;
}

// Returns the byte, or -errno. Waits for it.
__attribute__((noinline)) long read_a_byte(int fd) {
  unsigned char byte;
  const long count = call(SYS_read, fd, (long)&byte, 1);
  return count == 1 ? byte : count;
}

__attribute__((noinline)) long write_a_byte(int fd, unsigned char byte) {
  return call(SYS_write, fd, (long)&byte, 1);
}

__attribute__((noinline)) long own_thread_id(void) {
  return call(SYS_gettid, 0, 0, 0);
}
