// stack_sizes.c - says how large the stacks of threads are that ask for a size, and that do not.
// The arguments are a program and its words, executed at the end; without any it just ends.
// SPDX-License-Identifier: Apache-2.0
#include <threads.h>

#include "tests/programs/expect.h"

static size_t own_stack_bytes(void) {
  pthread_attr_t attributes;
  size_t bytes;
  EXPECT_OK(pthread_getattr_np(pthread_self(), &attributes));
  EXPECT_OK(pthread_attr_getstacksize(&attributes, &bytes));
  EXPECT_OK(pthread_attr_destroy(&attributes));
  return bytes;
}

static void* stack_bytes(void* argument) {
  (void)argument;
  return (void*)own_stack_bytes();
}

static int stack_kib(void* argument) {
  (void)argument;
  return (int)(own_stack_bytes() / 1024);
}

static size_t bytes_with(const pthread_attr_t* attributes) {
  pthread_t thread;
  EXPECT_OK(pthread_create(&thread, attributes, stack_bytes, NULL));
  return (size_t)join_thread(thread);
}

int main(int argc, char** argv) {
  say("no attributes: %zu\n", bytes_with(NULL));
  pthread_attr_t attributes;
  EXPECT_OK(pthread_attr_init(&attributes));
  say("attributes without a size: %zu\n", bytes_with(&attributes));
  EXPECT_OK(pthread_attr_setstacksize(&attributes, 1 << 20));
  say("one MiB asked for: %zu\n", bytes_with(&attributes));
  EXPECT_OK(pthread_attr_destroy(&attributes));
  thrd_t thread;
  int kib;
  EXPECT_EQ(thrd_create(&thread, stack_kib, NULL), thrd_success);
  EXPECT_EQ(thrd_join(thread, &kib), thrd_success);
  say("a C11 thread: %d KiB\n", kib);
  if (argc > 1) execvp(argv[1], argv + 1);
  return 0;
}
