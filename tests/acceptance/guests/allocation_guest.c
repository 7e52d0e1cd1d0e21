// allocation_guest.c - guest: 48 threads allocate, pass on, resize and free each other's blocks.
// Guarantees that every block keeps its contents from the thread that filled it to the thread that
// frees it; short-lived threads come and go meanwhile, so that thread caches are made and flushed.
// Compiled and run by allocators.py, natively and under weft, with a foreign malloc preloaded.
// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kThreads = 48, kRounds = 1500, kSlots = 64, kVisitors = 200 };

struct Slot {
  pthread_mutex_t lock;
  unsigned char* block;
  size_t bytes;
};

static struct Slot slots[kSlots];
static pthread_barrier_t start;

static void fail(const char* what) {
  fprintf(stderr, "allocation_guest: %s\n", what);
  _exit(1);
}

static uint32_t draw(uint32_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

static void check(const unsigned char* block, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (block[i] != (unsigned char)bytes) fail("a block lost its contents");
}

// Swaps a new block into a random slot and frees what somebody else left there.
static void swap_one(uint32_t* state) {
  // Mostly small; one in 64 is so large that the allocator maps it.
  const size_t bytes = draw(state) % 64 ? 1 + draw(state) % 2000 : 200000 + draw(state) % 300000;
  unsigned char* block = draw(state) % 2 ? malloc(bytes) : calloc(1, bytes);
  if (!block) fail("no memory");
  memset(block, (unsigned char)bytes, bytes);
  struct Slot* slot = &slots[draw(state) % kSlots];
  pthread_mutex_lock(&slot->lock);
  unsigned char* old = slot->block;
  const size_t old_bytes = slot->bytes;
  slot->block = block;
  slot->bytes = bytes;
  pthread_mutex_unlock(&slot->lock);
  if (!old) return;
  check(old, old_bytes);
  if (draw(state) % 4 == 0) {
    old = realloc(old, old_bytes * 2);
    if (!old) fail("no memory");
    check(old, old_bytes);
  }
  free(old);
}

static void* churn(void* argument) {
  uint32_t state = (uint32_t)(uintptr_t)argument * 2654435761u + 1;
  pthread_barrier_wait(&start);
  for (int i = 0; i < kRounds; i++) swap_one(&state);
  return NULL;
}

static void* visit(void* argument) {
  uint32_t state = (uint32_t)(uintptr_t)argument * 40503u + 7;
  for (int i = 0; i < 20; i++) swap_one(&state);
  void* aligned = NULL;
  if (posix_memalign(&aligned, 4096, 100) || (uintptr_t)aligned % 4096) fail("not aligned");
  free(aligned);
  return NULL;
}

int main(void) {
  pthread_t threads[kThreads];
  pthread_barrier_init(&start, NULL, kThreads + 1);
  for (int i = 0; i < kSlots; i++) pthread_mutex_init(&slots[i].lock, NULL);
  for (uintptr_t i = 0; i < kThreads; i++)
    if (pthread_create(&threads[i], NULL, churn, (void*)i)) fail("no thread");
  pthread_barrier_wait(&start);
  for (uintptr_t i = 0; i < kVisitors; i++) {
    pthread_t visitor;
    if (pthread_create(&visitor, NULL, visit, (void*)i)) fail("no thread");
    pthread_join(visitor, NULL);
  }
  for (int i = 0; i < kThreads; i++) pthread_join(threads[i], NULL);
  size_t left = 0;
  for (int i = 0; i < kSlots; i++) {
    if (!slots[i].block) continue;
    check(slots[i].block, slots[i].bytes);
    free(slots[i].block);
    left++;
  }
  printf("threads %d, visitors %d, slots filled %zu\n", kThreads, kVisitors, left);
  return 0;
}
