// malloc_stress.c - many threads allocate, resize, free, and hand blocks to each other.
// Checks malloc(3) (MT-Safe; blocks are aligned and do not overlap), realloc(3), posix_memalign(3):
// the allocator's own locks are contended, and threads give back what others took.
// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>

#include "tests/programs/expect.h"

enum { kThreads = 24, kRounds = 1500, kHeld = 32, kExchange = 64 };

struct Block {
  size_t size;
  unsigned char fill;
  unsigned char bytes[];
};

static _Atomic(struct Block*) exchange[kExchange];

static uint32_t next_random(uint32_t* state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static void fill_block(struct Block* block, size_t size, unsigned char fill) {
  EXPECT(block != NULL);
  EXPECT_EQ((uintptr_t)block % _Alignof(max_align_t), 0);
  block->size = size;
  block->fill = fill;
  memset(block->bytes, fill, size);
}

static void check_block(const struct Block* block) {
  for (size_t i = 0; i < block->size; i++) EXPECT_EQ(block->bytes[i], block->fill);
}

static struct Block* new_block(uint32_t* random) {
  // Mostly small, now and then one that malloc maps for itself.
  const size_t size = next_random(random) % 100 == 0 ? 200000 : next_random(random) % 700;
  struct Block* block = malloc(sizeof *block + size);
  fill_block(block, size, (unsigned char)next_random(random));
  return block;
}

static void* allocate_and_free(void* argument) {
  uint32_t random = 12345u + (uint32_t)(intptr_t)argument;
  struct Block* held[kHeld] = {NULL};
  for (int round = 0; round < kRounds; round++) {
    struct Block** slot = &held[next_random(&random) % kHeld];
    if (*slot == NULL) {
      *slot = new_block(&random);
    } else if (next_random(&random) % 3 == 0) {
      const size_t size = next_random(&random) % 2000;
      check_block(*slot);
      *slot = realloc(*slot, sizeof **slot + size);
      fill_block(*slot, size, (unsigned char)round);
    } else if (next_random(&random) % 2 == 0) {
      *slot = atomic_exchange(&exchange[next_random(&random) % kExchange], *slot);
    } else {
      check_block(*slot);
      free(*slot);
      *slot = NULL;
    }
    if (round % 200 == 0) sched_yield();
  }
  for (int i = 0; i < kHeld; i++) {
    if (held[i] != NULL) check_block(held[i]);
    free(held[i]);
  }
  return NULL;
}

static void blocks_keep_their_content(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) {
    threads[i] = start_thread(allocate_and_free, (void*)(intptr_t)i);
  }
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  for (int i = 0; i < kExchange; i++) {
    struct Block* block = atomic_exchange(&exchange[i], NULL);
    if (block != NULL) check_block(block);
    free(block);
  }
}

static void* allocate_aligned(void* argument) {
  for (size_t alignment = 16; alignment <= 65536; alignment *= 2) {
    void* block = NULL;
    EXPECT_OK(posix_memalign(&block, alignment, 100));
    EXPECT_EQ((uintptr_t)block % alignment, 0);
    sched_yield();
    free(block);
    unsigned char* zeroed = calloc(alignment, 3);
    EXPECT(zeroed != NULL);
    for (size_t i = 0; i < alignment * 3; i++) EXPECT_EQ(zeroed[i], 0);
    EXPECT(malloc_usable_size(zeroed) >= alignment * 3);
    free(zeroed);
  }
  return argument;
}

static void alignment_is_kept(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(allocate_aligned, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT_EQ(malloc_trim(0) & ~1, 0);
}

int main(void) {
  RUN(blocks_keep_their_content);
  RUN(alignment_is_kept);
  return 0;
}
