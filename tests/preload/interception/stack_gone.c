// stack_gone.c - a thread's stack goes away the moment its joiner knows of its end.
// Rule 4: the runtime leaves the stack before it clears the thread's id. pthread_attr_setstack(3)
// gives the memory back to the program when pthread_join(3) returns: here it is unmapped at once, or
// filled with another pattern and used for the next thread.
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>
#include <sys/mman.h>

#include "tests/programs/expect.h"

enum { kMakers = 4, kRounds = 2500, kStackBytes = 64 * 1024 };

static atomic_long born;

static void* live_shortly(void* argument) {
  volatile char local[512];
  local[0] = local[511] = (char)(intptr_t)argument;
  if ((intptr_t)argument % 8 == 0) sched_yield();
  born++;
  return (void*)((intptr_t)argument + local[0] - local[511]);
}

static char* map_stack(void) {
  char* stack = mmap(NULL, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(stack != MAP_FAILED);
  return stack;
}

static void* make_threads(void* argument) {
  (void)argument;
  char* stack = map_stack();
  for (intptr_t i = 0; i < kRounds; i++) {
    pthread_attr_t attributes;
    EXPECT_OK(pthread_attr_init(&attributes));
    EXPECT_OK(pthread_attr_setstack(&attributes, stack, kStackBytes));
    pthread_t thread;
    EXPECT_OK(pthread_create(&thread, &attributes, live_shortly, (void*)i));
    EXPECT_EQ((intptr_t)join_thread(thread), i);
    EXPECT_OK(pthread_attr_destroy(&attributes));
    if (i % 2 == 0) {
      EXPECT_SYS(munmap(stack, kStackBytes));
      stack = map_stack();
    } else {
      // Where the thread's descriptor and last frames were.
      memset(stack + kStackBytes - 16384, 0xcc, 16384);
    }
  }
  EXPECT_SYS(munmap(stack, kStackBytes));
  return NULL;
}

int main(void) {
  pthread_t makers[kMakers];
  for (int i = 0; i < kMakers; i++) makers[i] = start_thread(make_threads, NULL);
  for (int i = 0; i < kMakers; i++) join_thread(makers[i]);
  say("%ld threads on stacks that went away\n", (long)born);
  return 0;
}
