// held_locks.c - a thread waits in a system call while it holds a lock of libc's.
// Rule 10: three writers share one stream over a full pipe; the reader is slow and runs on the same
// worker. The writer that waits holds the stream's lock, so the others wait for the lock, and the
// reader must run all the same. Then a library is loaded while the stream is held, and its functions
// are resolved while the loader's lock is contended.
// Argument: a library to load. Checks flockfile(3), dlopen(3) (both MT-Safe).
// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "tests/programs/expect.h"

enum { kWriters = 3, kLines = 600, kLineBytes = 100, kLoaders = 4, kLoads = 20 };

static const char* library;
static FILE* stream;
static int ends[2];

static void* write_lines(void* argument) {
  const char letter = (char)('a' + (intptr_t)argument);
  char line[kLineBytes + 1];
  memset(line, letter, kLineBytes - 1);
  line[kLineBytes - 1] = '\n';
  line[kLineBytes] = 0;
  for (int i = 0; i < kLines; i++) EXPECT(fputs(line, stream) >= 0);
  return NULL;
}

static void* read_slowly(void* argument) {
  FILE* input = argument;
  int lines[kWriters] = {0};
  char line[kLineBytes + 2];
  int total = 0;
  for (; fgets(line, sizeof line, input) != NULL; total++) {
    const int writer = line[0] - 'a';
    EXPECT(writer >= 0 && writer < kWriters);
    for (int i = 0; i < kLineBytes - 1; i++) EXPECT_EQ(line[i], line[0]);
    EXPECT_EQ(line[kLineBytes - 1], '\n');
    lines[writer]++;
    if (total % 50 == 0) sleep_ms(1);
  }
  for (int i = 0; i < kWriters; i++) EXPECT_EQ(lines[i], kLines);
  return (void*)(intptr_t)total;
}

static void writers_share_a_full_pipe(void) {
  EXPECT_SYS(pipe2(ends, O_CLOEXEC));
  EXPECT_SYS(fcntl(ends[1], F_SETPIPE_SZ, 4096));
  stream = fdopen(ends[1], "w");
  FILE* input = fdopen(ends[0], "r");
  EXPECT(stream != NULL && input != NULL);
  const pthread_t reader = start_thread(read_slowly, input);
  pthread_t writers[kWriters];
  for (int i = 0; i < kWriters; i++) writers[i] = start_thread(write_lines, (void*)(intptr_t)i);
  for (int i = 0; i < kWriters; i++) join_thread(writers[i]);
  EXPECT_EQ(fclose(stream), 0);
  EXPECT_EQ((intptr_t)join_thread(reader), kWriters * kLines);
  EXPECT_EQ(fclose(input), 0);
}

static atomic_bool stop;

static void* hold_stream(void* argument) {
  (void)argument;
  while (!stop) {
    flockfile(stream);
    EXPECT(fputc('x', stream) != EOF && fflush(stream) == 0);
    sleep_ms(1);
    funlockfile(stream);
    sched_yield();
  }
  return NULL;
}

static void* load_and_unload(void* argument) {
  (void)argument;
  for (int i = 0; i < kLoads; i++) {
    void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    EXPECT(handle != NULL);
    EXPECT(dlsym(handle, "read_a_byte") != NULL);
    EXPECT(fputc('y', stream) != EOF);
    EXPECT_EQ(dlclose(handle), 0);
  }
  return NULL;
}

static void the_loader_runs_beside_held_streams(void) {
  stream = fopen("/dev/null", "w");
  EXPECT(stream != NULL);
  const pthread_t holder = start_thread(hold_stream, NULL);
  pthread_t loaders[kLoaders];
  for (int i = 0; i < kLoaders; i++) loaders[i] = start_thread(load_and_unload, NULL);
  for (int i = 0; i < kLoaders; i++) join_thread(loaders[i]);
  stop = true;
  join_thread(holder);
  EXPECT_EQ(fclose(stream), 0);
}

int main(int argc, char** argv) {
  EXPECT_EQ(argc, 2);
  library = argv[1];
  RUN(writers_share_a_full_pipe);
  RUN(the_loader_runs_beside_held_streams);
  return 0;
}
