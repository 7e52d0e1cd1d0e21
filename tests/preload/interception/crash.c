// crash.c - ends by a fault or an abort, on a thread, while others wait; the argument says how.
// A crash of the program is the program's: its signal, its core, nothing on the terminal.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/mman.h>

#include "tests/programs/expect.h"

static void* wait_for_ever(void* argument) {
  for (;;) pause();
  return argument;
}

static volatile int deeper = 1;

static int recurse(volatile char* before) {
  volatile char here[4096];
  here[0] = before[0];
  return deeper == 0 ? 0 : recurse(here) + here[0];
}

static void* crash(void* argument) {
  const char* how = argument;
  int* volatile nowhere = NULL;
  if (strcmp(how, "fault") == 0) *nowhere = 1;
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "illegal") == 0) __builtin_trap();
  if (strcmp(how, "divide") == 0) {
    volatile int hundred = 100, zero = 0;
    return (void*)(intptr_t)(hundred / zero);
  }
  if (strcmp(how, "bus") == 0) {
    char* beyond = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, temporary_file(), 0);
    EXPECT(beyond != MAP_FAILED);
    return (void*)(intptr_t) * (volatile char*)beyond;
  }
  if (strcmp(how, "overflow") == 0) {
    volatile char none[1] = {0};
    return (void*)(intptr_t)recurse(none);
  }
  if (strcmp(how, "kill") == 0) raise(SIGQUIT);
  return NULL;
}

int main(int argc, char** argv) {
  EXPECT_EQ(argc, 2);
  for (int i = 0; i < 4; i++) start_thread(wait_for_ever, NULL);
  settle();
  join_thread(start_thread(crash, argv[1]));
  return 64;
}
