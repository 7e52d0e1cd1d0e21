// malloc_mappings.c - malloc that maps, unmaps, grows and protects all the time, in one arena.
// Rule 9: mmap, munmap, mremap, brk, madvise and mprotect never park, because malloc's lock is held
// across them. 64 threads share one arena, and every block from 4 KiB on is a mapping of its own.
// Checks malloc(3) and mallopt(3) by fill patterns.
// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 64, kRounds = 120 };

static atomic_long blocks;

static void* allocate(void* argument) {
  const int self = (int)(intptr_t)argument % 200 + 1;
  for (int i = 0; i < kRounds; i++) {
    // Around the threshold, so that both the arena and mappings are in use.
    const size_t size = (size_t)((i * 977 + self * 131) % 16384) + 64;
    unsigned char* block = malloc(size);
    EXPECT(block != NULL);
    memset(block, self, size);
    sched_yield();
    unsigned char* larger = realloc(block, size + 5000);
    EXPECT(larger != NULL);
    for (size_t at = 0; at < size; at += 61) EXPECT_EQ(larger[at], self);
    free(larger);
    if (i % 16 == 0) malloc_trim(0);
    blocks++;
  }
  return NULL;
}

int main(void) {
  EXPECT_EQ(mallopt(M_ARENA_MAX, 1), 1);
  EXPECT_EQ(mallopt(M_MMAP_THRESHOLD, 4096), 1);
  EXPECT_EQ(mallopt(M_TRIM_THRESHOLD, 4096), 1);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(allocate, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  say("%ld blocks by %d threads\n", (long)blocks, kThreads);
  return 0;
}
