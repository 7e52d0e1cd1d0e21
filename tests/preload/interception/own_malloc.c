// own_malloc.c - the program's own malloc makes system calls under its own lock.
// Rule 1: the runtime is a guest in whatever lock the program holds. If it allocated, or called any
// function of libc that does, the first call under this lock would wait for itself.
// Checks malloc(3) by fill patterns, under load from many threads that also use stdio.
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

enum { kThreads = 24, kRounds = 300, kHeaderBytes = 16, kPool = 64 << 20 };

struct Header {
  size_t number;  // size class; 0: aligned memory, which is never used again
  size_t unused;
};

static pthread_mutex_t heap_lock = PTHREAD_MUTEX_INITIALIZER;
static char* heap_next;
static char* heap_end;
static void* free_lists[48];
static atomic_long calls;

static unsigned size_class(size_t size) {
  unsigned number = 5;
  while (((size_t)1 << number) < size) number++;
  return number;
}

// A file that the kernel writes while it is read: what libc's own malloc does once, for its arenas.
static void make_system_calls(void) {
  char text[64];
  const int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (read(fd, text, sizeof text) <= 0) abort();
    close(fd);
  }
  void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED || mprotect(page, 4096, PROT_NONE) != 0 || munmap(page, 4096) != 0) {
    abort();
  }
  sched_yield();
}

void* malloc(size_t size) {
  const unsigned number = size_class(size + kHeaderBytes);
  pthread_mutex_lock(&heap_lock);
  if (calls++ % 64 == 0) make_system_calls();
  if (heap_next == NULL) {
    heap_next = mmap(NULL, kPool, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (heap_next == MAP_FAILED) abort();
    heap_end = heap_next + kPool;
  }
  char* block = free_lists[number];
  if (block != NULL) {
    free_lists[number] = *(void**)(block + kHeaderBytes);
  } else {
    block = heap_next;
    heap_next += (size_t)1 << number;
    if (heap_next > heap_end) abort();
  }
  ((struct Header*)block)->number = number;
  pthread_mutex_unlock(&heap_lock);
  return block + kHeaderBytes;
}

void free(void* pointer) {
  if (pointer == NULL) return;
  char* block = (char*)pointer - kHeaderBytes;
  pthread_mutex_lock(&heap_lock);
  if (calls++ % 64 == 0) make_system_calls();
  void** list = &free_lists[((struct Header*)block)->number];
  *(void**)pointer = *list;
  *list = block;
  pthread_mutex_unlock(&heap_lock);
}

void* calloc(size_t count, size_t size) {
  void* pointer = malloc(count * size);
  // By hand: a compiler would make malloc and memset a call of calloc.
  for (volatile char* at = pointer; at < (volatile char*)pointer + count * size; at++) *at = 0;
  return pointer;
}

void* realloc(void* pointer, size_t size) {
  void* fresh = malloc(size);
  if (pointer == NULL) return fresh;
  const size_t number = ((struct Header*)pointer)[-1].number;
  const size_t old = ((size_t)1 << number) - kHeaderBytes;
  memcpy(fresh, pointer, old < size ? old : size);
  free(pointer);
  return fresh;
}

void* memalign(size_t alignment, size_t size) {
  // Thread descriptors and TLS blocks want it: over-allocate, and never give it back.
  char* pointer = malloc(size + alignment + kHeaderBytes);
  char* aligned = (char*)(((uintptr_t)pointer + kHeaderBytes + alignment - 1) & ~(alignment - 1));
  ((struct Header*)aligned)[-1].number = 0;
  return aligned;
}

static void* allocate(void* argument) {
  const int self = (int)(intptr_t)argument;
  FILE* null = fopen("/dev/null", "w");
  EXPECT(null != NULL);
  for (int i = 0; i < kRounds; i++) {
    const size_t size = (size_t)(i * 37 + self) % 3000 + 1;
    unsigned char* volatile fresh = malloc(size);
    unsigned char* block = fresh;
    memset(block, self, size);
    fprintf(null, "%d of %d\n", i, self);
    block = realloc(block, size * 2);
    for (size_t at = 0; at < size; at++) EXPECT_EQ(block[at], self);
    free(block);
  }
  EXPECT_EQ(fclose(null), 0);
  return NULL;
}

int main(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(allocate, (void*)(intptr_t)(i + 1));
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  say("%d threads allocated %d blocks each\n", kThreads, 2 * kRounds);
  return 0;
}
