// stdio_shared.c - one FILE used by many threads: on a temporary file, on a pipe, and with
// flockfile.
// Checks stdio's locking, flockfile(3) "the stdio functions are thread-safe ... each stream has an
// associated lock": lines come out whole, once each, and each thread's in their order.
// SPDX-License-Identifier: Apache-2.0
#include "tests/programs/expect.h"

enum { kThreads = 24, kLines = 200, kLineMax = 300 };

static FILE* shared;

static int filler_length(int thread, int line) {
  return (thread * 37 + line * 11) % 200;
}

static void* print_lines(void* argument) {
  const int self = (int)(intptr_t)argument;
  char filler[kLineMax];
  memset(filler, 'a' + self % 26, sizeof filler);
  for (int line = 0; line < kLines; line++) {
    EXPECT(fprintf(shared, "%d %d %.*s\n", self, line, filler_length(self, line), filler) > 0);
    if (line % 50 == 0) EXPECT_EQ(fflush(shared), 0);
  }
  return NULL;
}

// Reads what print_lines() wrote, and fails on a torn, lost or disordered line.
static void* check_lines(void* argument) {
  FILE* source = argument;
  int next[kThreads] = {0};
  char text[kLineMax];
  long count = 0;
  while (fgets(text, sizeof text, source) != NULL) {
    int thread, line, used = 0;
    EXPECT(sscanf(text, "%d %d%n", &thread, &line, &used) == 2);
    EXPECT_EQ(text[used++], ' ');
    EXPECT(thread >= 0 && thread < kThreads);
    EXPECT_EQ(line, next[thread]);
    next[thread]++;
    EXPECT_EQ(strlen(text), used + filler_length(thread, line) + 1);
    for (char* c = text + used; *c != '\n'; c++) EXPECT_EQ(*c, 'a' + thread % 26);
    count++;
  }
  EXPECT(!ferror(source));
  return (void*)count;
}

static void print_from_many_threads(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(print_lines, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void a_temporary_file_holds_whole_lines(void) {
  shared = tmpfile();
  EXPECT(shared != NULL);
  print_from_many_threads();
  rewind(shared);
  EXPECT_EQ((intptr_t)check_lines(shared), kThreads * kLines);
  EXPECT_EQ(fclose(shared), 0);
}

static void a_pipe_carries_whole_lines(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  shared = fdopen(ends[1], "w");
  FILE* source = fdopen(ends[0], "r");
  EXPECT(shared != NULL && source != NULL);
  const pthread_t reader = start_thread(check_lines, source);
  print_from_many_threads();
  EXPECT_EQ(fclose(shared), 0);
  EXPECT_EQ((intptr_t)join_thread(reader), kThreads * kLines);
  EXPECT_EQ(fclose(source), 0);
}

static void* print_in_pieces(void* argument) {
  const int self = (int)(intptr_t)argument;
  for (int line = 0; line < kLines / 4; line++) {
    flockfile(shared);
    EXPECT(fprintf(shared, "%d", self) > 0);
    // The lock is recursive and held across a call that lets the others run.
    flockfile(shared);
    EXPECT(fprintf(shared, " %d ", line) > 0);
    sched_yield();
    funlockfile(shared);
    for (int i = 0; i < filler_length(self, line); i++) putc_unlocked('a' + self % 26, shared);
    putc_unlocked('\n', shared);
    funlockfile(shared);
  }
  return NULL;
}

static void flockfile_keeps_pieces_together(void) {
  shared = tmpfile();
  EXPECT(shared != NULL);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(print_in_pieces, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  rewind(shared);
  EXPECT_EQ((intptr_t)check_lines(shared), kThreads * (kLines / 4));
  EXPECT_EQ(fclose(shared), 0);
}

static void* print_to_stdout(void* argument) {
  (void)argument;
  // The same line from every thread: their order cannot be told, a torn one can.
  for (int i = 0; i < 10; i++) EXPECT(printf("one whole line on standard output\n") > 0);
  return NULL;
}

static void standard_output_is_not_torn(void) {
  EXPECT_EQ(setvbuf(stdout, NULL, _IOLBF, 0), 0);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(print_to_stdout, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT_EQ(fflush(stdout), 0);
}

int main(void) {
  RUN(a_temporary_file_holds_whole_lines);
  RUN(a_pipe_carries_whole_lines);
  RUN(flockfile_keeps_pieces_together);
  RUN(standard_output_is_not_torn);
  return 0;
}
