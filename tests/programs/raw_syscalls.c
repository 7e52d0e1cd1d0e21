// raw_syscalls.c - blocking system calls made by syscall(2) and by instructions in this very
// program.
// Checks the x86-64 ABI (syscall(2), "Architecture calling conventions", and psABI A.2.1): only
// rax, rcx and r11 change; vector registers, the red zone and the flags a caller relies on are
// kept.
// SPDX-License-Identifier: Apache-2.0
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>

#include "tests/programs/loopback.h"

enum { kThreads = 16, kRounds = 40, kVectors = 16, kGeneral = 13 };

// The kernel's answer: a value, or the error number negated. errno is not touched.
static long raw_call(long number, long first, long second, long third, long fourth) {
  long result;
  register long fourth_register __asm__("r10") = fourth;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(first), "S"(second), "d"(third), "r"(fourth_register)
                   : "rcx", "r11", "memory", "cc");
  return result;
}

struct Registers {
  unsigned char vectors_in[kVectors][16];
  unsigned char vectors_out[kVectors][16];
  // In order: rdi rsi rdx r8 r9 r10 rbx rbp r12 r13 r14 r15, and the value of rsp.
  uint64_t general_in[kGeneral];
  uint64_t general_out[kGeneral];
  long number;
  long result;
};

// clang-format off
#define VECTORS(INSTRUCTION)                                                \
  INSTRUCTION(0)  INSTRUCTION(1)  INSTRUCTION(2)  INSTRUCTION(3)            \
  INSTRUCTION(4)  INSTRUCTION(5)  INSTRUCTION(6)  INSTRUCTION(7)            \
  INSTRUCTION(8)  INSTRUCTION(9)  INSTRUCTION(10) INSTRUCTION(11)           \
  INSTRUCTION(12) INSTRUCTION(13) INSTRUCTION(14) INSTRUCTION(15)
#define GENERALS(INSTRUCTION)                                               \
  INSTRUCTION(0, rdi)  INSTRUCTION(1, rsi)  INSTRUCTION(2, rdx)             \
  INSTRUCTION(3, r8)   INSTRUCTION(4, r9)   INSTRUCTION(5, r10)             \
  INSTRUCTION(6, rbx)  INSTRUCTION(7, rbp)  INSTRUCTION(8, r12)             \
  INSTRUCTION(9, r13)  INSTRUCTION(10, r14) INSTRUCTION(11, r15)
// clang-format on
#define LOAD_VECTOR(i) "movdqu 16*" #i "(%%rax), %%xmm" #i "\n\t"
#define STORE_VECTOR(i) "movdqu %%xmm" #i ", 256+16*" #i "(%%rcx)\n\t"
#define LOAD_GENERAL(i, name) "mov 512+8*" #i "(%%rax), %%" #name "\n\t"
#define STORE_GENERAL(i, name) "mov %%" #name ", 616+8*" #i "(%%rcx)\n\t"

_Static_assert(__builtin_offsetof(struct Registers, vectors_out) == 256, "used in the assembly");
_Static_assert(__builtin_offsetof(struct Registers, general_in) == 512, "used in the assembly");
_Static_assert(__builtin_offsetof(struct Registers, general_out) == 616, "used in the assembly");
_Static_assert(__builtin_offsetof(struct Registers, number) == 720, "used in the assembly");
_Static_assert(__builtin_offsetof(struct Registers, result) == 728, "used in the assembly");

// Makes one call with every register full, and stores what the registers hold after it. The pointer
// to `registers` waits on the stack; 128 bytes below it keep clear of this function's own red zone.
static __attribute__((noinline)) void call_with_full_registers(struct Registers* registers) {
  __asm__ volatile(
      "lea -128(%%rsp), %%rsp\n\t"
      "push %%rbp\n\t"
      "push %%rbx\n\t"
      "push %%rax\n\t"
      "mov %%rsp, 608(%%rax)\n\t" VECTORS(LOAD_VECTOR) GENERALS(LOAD_GENERAL)
      "mov 720(%%rax), %%rax\n\t"
      "syscall\n\t"
      "mov (%%rsp), %%rcx\n\t" GENERALS(STORE_GENERAL) VECTORS(STORE_VECTOR)
      "mov %%rsp, 712(%%rcx)\n\t"
      "mov %%rax, 728(%%rcx)\n\t"
      "pop %%rax\n\t"
      "pop %%rbx\n\t"
      "pop %%rbp\n\t"
      "lea 128(%%rsp), %%rsp\n\t"
      : "+a"(registers)
      :
      : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0",
        "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15", "memory", "cc");
}

static void* write_later(void* argument) {
  for (int i = 0; i < kRounds; i++) {
    if (i % 8 == 0) settle();
    EXPECT_EQ(write((int)(intptr_t)argument, "w", 1), 1);
  }
  return NULL;
}

static void* read_with_full_registers(void* argument) {
  int ends[2];
  char byte;
  struct Registers registers;
  EXPECT_SYS(pipe(ends));
  const pthread_t writer = start_thread(write_later, (void*)(intptr_t)ends[1]);
  for (int round = 0; round < kRounds; round++) {
    byte = 0;
    for (int i = 0; i < kVectors; i++) {
      memset(registers.vectors_in[i], (int)(intptr_t)argument * 16 + i + round, 16);
    }
    for (int i = 0; i < kGeneral - 1; i++) {
      registers.general_in[i] = (uint64_t)(i + 1) * 0x0101010101010101u + (uint64_t)round;
    }
    registers.number = SYS_read;
    registers.general_in[0] = (uint64_t)ends[0];
    registers.general_in[1] = (uintptr_t)&byte;
    registers.general_in[2] = 1;
    call_with_full_registers(&registers);
    EXPECT_EQ(registers.result, 1);
    EXPECT_EQ(byte, 'w');
    EXPECT_EQ(memcmp(registers.vectors_in, registers.vectors_out, sizeof registers.vectors_in), 0);
    for (int i = 0; i < kGeneral; i++) {
      EXPECT_EQ(registers.general_out[i], registers.general_in[i]);
    }
  }
  join_thread(writer);
  EXPECT_SYS(close(ends[0]));
  EXPECT_SYS(close(ends[1]));
  return NULL;
}

static void run_threads(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(body, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void a_site_in_the_program_keeps_all_registers(void) {
  run_threads(read_with_full_registers);
}

static void errors_come_in_the_register(void) {
  char byte;
  errno = 12345;
  EXPECT_EQ(raw_call(SYS_read, -1, (long)&byte, 1, 0), -EBADF);
  EXPECT_EQ(raw_call(100000, 0, 0, 0, 0), -ENOSYS);
  EXPECT_EQ(raw_call(SYS_write, 1, 8, 1, 0), -EFAULT);
  EXPECT_EQ(errno, 12345);
  EXPECT_EQ(raw_call(SYS_gettid, 0, 0, 0, 0), gettid());
}

static void* block_by_syscall(void* argument) {
  (void)argument;
  int ends[2];
  char byte = 0;
  EXPECT_SYS(pipe(ends));
  const struct timespec time = timespec_from_ns(5 * kMs);
  const long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_EQ(syscall(SYS_nanosleep, &time, NULL), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 5 * kMs);
  struct pollfd polled = {.fd = ends[0], .events = POLLIN};
  EXPECT_EQ(syscall(SYS_poll, &polled, 1, 5), 0);
  uint32_t word = 1;
  EXPECT_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, &time, NULL, 0), ETIMEDOUT);
  EXPECT_EQ(raw_call(SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 2, 0), -EAGAIN);
  EXPECT_EQ(syscall(SYS_sched_yield), 0);
  const pthread_t writer = start_thread(write_later, (void*)(intptr_t)ends[1]);
  for (int i = 0; i < kRounds; i++) EXPECT_EQ(syscall(SYS_read, ends[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'w');
  join_thread(writer);
  EXPECT_ERRNO(syscall(SYS_read, -1, &byte, 1), EBADF);
  EXPECT_SYS(syscall(SYS_close, ends[0]));
  EXPECT_SYS(syscall(SYS_close, ends[1]));
  return NULL;
}

static void syscall_blocks_like_the_wrappers(void) {
  run_threads(block_by_syscall);
}

// A leaf: the compiler may keep `words` below the stack pointer, across the call.
static __attribute__((noinline)) long yield_over_red_zone(long seed) {
  volatile long words[12];
  long number = SYS_sched_yield, sum = 0;
  for (int i = 0; i < 12; i++) words[i] = seed + i;
  __asm__ volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory", "cc");
  for (int i = 0; i < 12; i++) sum += words[i];
  return number == 0 ? sum : -1;
}

static void* use_red_zone(void* argument) {
  for (long i = 0; i < 200; i++) EXPECT_EQ(yield_over_red_zone(i), 12 * i + 66);
  return argument;
}

static void the_red_zone_is_kept(void) {
  run_threads(use_red_zone);
}

int main(void) {
  RUN(a_site_in_the_program_keeps_all_registers);
  RUN(errors_come_in_the_register);
  RUN(syscall_blocks_like_the_wrappers);
  RUN(the_red_zone_is_kept);
  return 0;
}
