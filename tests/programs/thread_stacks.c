// thread_stacks.c - stack sizes, the caller's own stack memory, and deep recursion.
// Checks pthread_getattr_np(3), pthread_attr_setstack(3), pthread_attr_setstacksize(3) "EINVAL",
// pthread_attr_setguardsize(3): a thread's variables lie in the stack that is reported.
// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <sys/mman.h>

#include "tests/programs/expect.h"

enum { kThreads = 40, kFrameBytes = 1024, kMib = 1024 * 1024 };

// Fills one frame for each level and checks all of them on the way back.
static __attribute__((noinline)) int use_stack(int depth, int seed) {
  volatile char frame[kFrameBytes];
  memset((void*)frame, (char)(seed + depth), sizeof frame);
  if (depth % 256 == 0) sched_yield();
  const int below = depth > 0 ? use_stack(depth - 1, seed) : 0;
  for (int i = 0; i < kFrameBytes; i += 64) EXPECT_EQ(frame[i], (char)(seed + depth));
  return below + 1;
}

static void expect_inside_own_stack(size_t asked) {
  pthread_attr_t attributes;
  void* lowest = NULL;
  size_t size = 0;
  EXPECT_OK(pthread_getattr_np(pthread_self(), &attributes));
  EXPECT_OK(pthread_attr_getstack(&attributes, &lowest, &size));
  EXPECT_OK(pthread_attr_destroy(&attributes));
  const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  EXPECT(here > (uintptr_t)lowest && here < (uintptr_t)lowest + size);
  EXPECT(size >= asked);
}

static void* use_minimal_stack(void* argument) {
  EXPECT_EQ(use_stack(1, 3), 2);
  const struct timespec moment = {0, 1000000};
  nanosleep(&moment, NULL);
  expect_inside_own_stack((size_t)argument);
  return NULL;
}

static void* use_most_of_stack(void* argument) {
  const size_t asked = (size_t)argument;
  const int depth = (int)(asked / 2 / (kFrameBytes + 128));
  EXPECT_EQ(use_stack(depth, 5), depth + 1);
  expect_inside_own_stack(asked);
  return NULL;
}

static void run_with_size(size_t size, void* (*body)(void*)) {
  pthread_attr_t attributes;
  EXPECT_OK(pthread_attr_init(&attributes));
  EXPECT_OK(pthread_attr_setstacksize(&attributes, size));
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) {
    EXPECT_OK(pthread_create(&threads[i], &attributes, body, (void*)size));
  }
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT_OK(pthread_attr_destroy(&attributes));
}

static void the_smallest_stack_suffices(void) {
  run_with_size((size_t)PTHREAD_STACK_MIN, use_minimal_stack);
}
static void a_small_stack_can_be_used(void) {
  run_with_size(64 * 1024, use_most_of_stack);
}
static void a_large_stack_can_be_used(void) {
  run_with_size(2 * kMib, use_most_of_stack);
}

static void too_small_a_size_is_refused(void) {
  pthread_attr_t attributes;
  EXPECT_OK(pthread_attr_init(&attributes));
  EXPECT_EQ(pthread_attr_setstacksize(&attributes, 1024), EINVAL);
}

static void* recurse_a_mebibyte(void* argument) {
  (void)argument;
  for (int i = 0; i < 3; i++) EXPECT_EQ(use_stack(kMib / kFrameBytes, i), kMib / kFrameBytes + 1);
  return NULL;
}

static void default_stacks_take_deep_recursion(void) {
  pthread_t threads[8];
  for (int i = 0; i < 8; i++) threads[i] = start_thread(recurse_a_mebibyte, NULL);
  for (int i = 0; i < 8; i++) join_thread(threads[i]);
}

static char* own_memory;
static size_t own_bytes;

static void* live_in_own_memory(void* argument) {
  (void)argument;
  const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  EXPECT(here > (uintptr_t)own_memory && here < (uintptr_t)own_memory + own_bytes);
  expect_inside_own_stack(own_bytes);
  EXPECT_EQ(use_stack(40, 9), 41);
  sleep_ms(1);
  EXPECT_EQ(use_stack(40, 11), 41);
  return own_memory;
}

static void the_caller_may_give_the_memory(void) {
  own_bytes = 256 * 1024;
  own_memory = mmap(NULL, own_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(own_memory != MAP_FAILED);
  pthread_attr_t attributes;
  EXPECT_OK(pthread_attr_init(&attributes));
  EXPECT_OK(pthread_attr_setstack(&attributes, own_memory, own_bytes));
  for (int i = 0; i < 20; i++) {
    pthread_t thread;
    EXPECT_OK(pthread_create(&thread, &attributes, live_in_own_memory, NULL));
    EXPECT(join_thread(thread) == own_memory);
  }
  // The memory is the caller's again when the thread is joined: not freed, not reused.
  memset(own_memory, 0x5a, own_bytes);
  EXPECT_SYS(munmap(own_memory, own_bytes));
}

static void* report_guard(void* argument) {
  pthread_attr_t attributes;
  size_t guard = 0;
  EXPECT_OK(pthread_getattr_np(pthread_self(), &attributes));
  EXPECT_OK(pthread_attr_getguardsize(&attributes, &guard));
  EXPECT_OK(pthread_attr_destroy(&attributes));
  EXPECT(guard >= (size_t)argument);
  return NULL;
}

static void guards_have_the_size_asked_for(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  const size_t sizes[] = {0, 4096, 65536};
  for (int i = 0; i < 3; i++) {
    EXPECT_OK(pthread_attr_init(&attributes));
    EXPECT_OK(pthread_attr_setguardsize(&attributes, sizes[i]));
    EXPECT_OK(pthread_create(&thread, &attributes, report_guard, (void*)sizes[i]));
    join_thread(thread);
  }
}

static void the_first_thread_knows_its_stack(void) {
  expect_inside_own_stack(64 * 1024);
}

int main(void) {
  RUN(the_smallest_stack_suffices);
  RUN(a_small_stack_can_be_used);
  RUN(a_large_stack_can_be_used);
  RUN(too_small_a_size_is_refused);
  RUN(default_stacks_take_deep_recursion);
  RUN(the_caller_may_give_the_memory);
  RUN(guards_have_the_size_asked_for);
  RUN_ON_MAIN(the_first_thread_knows_its_stack);
  return 0;
}
