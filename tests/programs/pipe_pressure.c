// pipe_pressure.c - pipes that are full or empty most of the time, and FIFOs.
// Checks pipe(7): writes of up to PIPE_BUF bytes are atomic, a full pipe blocks the writer, the end
// of file comes when the last writer closes; fifo(7): opening one end waits for the other.
// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <sys/stat.h>

#include "tests/programs/loopback.h"

enum { kWriters = 12, kRecords = 60, kBytes = 4 * 1024 * 1024 };

static int ends[2];

static void* write_records(void* argument) {
  static __thread char record[PIPE_BUF];
  for (int i = 0; i < kRecords; i++) {
    memset(record, 'a' + (int)(intptr_t)argument, sizeof record);
    EXPECT_EQ(write(ends[1], record, sizeof record), (long)sizeof record);
  }
  return NULL;
}

static void records_are_not_torn(void) {
  pthread_t writers[kWriters];
  static char record[PIPE_BUF];
  int counts[kWriters] = {0};
  EXPECT_SYS(pipe(ends));
  for (int i = 0; i < kWriters; i++) writers[i] = start_thread(write_records, (void*)(intptr_t)i);
  for (int i = 0; i < kWriters * kRecords; i++) {
    EXPECT_EQ(read_all(ends[0], record, sizeof record), sizeof record);
    for (size_t k = 1; k < sizeof record; k++) EXPECT_EQ(record[k], record[0]);
    counts[record[0] - 'a']++;
  }
  for (int i = 0; i < kWriters; i++) {
    join_thread(writers[i]);
    EXPECT_EQ(counts[i], kRecords);
  }
}

static unsigned char pattern(size_t i) {
  return (unsigned char)(i * 7 + i / 4096);
}

static void* write_pattern(void* argument) {
  unsigned char* block = malloc(kBytes);
  EXPECT(block != NULL);
  for (size_t i = 0; i < kBytes; i++) block[i] = pattern(i);
  // One call: it returns only when all of it is in the pipe.
  EXPECT_EQ(write(ends[1], block, kBytes), kBytes);
  EXPECT_SYS(close(ends[1]));
  free(block);
  return argument;
}

static void a_large_write_waits_for_the_reader(void) {
  EXPECT_SYS(pipe(ends));
  const pthread_t writer = start_thread(write_pattern, NULL);
  static unsigned char block[30000];
  size_t done = 0;
  for (;;) {
    const size_t count = (size_t)EXPECT_SYS(read(ends[0], block, 1 + done % sizeof block));
    if (count == 0) break;
    for (size_t i = 0; i < count; i++) EXPECT_EQ(block[i], pattern(done + i));
    done += count;
  }
  EXPECT_EQ(done, kBytes);
  join_thread(writer);
}

struct Stage {
  int source;
  int target;
};

static void* pass_on(void* argument) {
  const struct Stage* stage = argument;
  for (;;) {
    int value;
    if (read_all(stage->source, &value, sizeof value) == 0) break;
    value++;
    write_all(stage->target, &value, sizeof value);
  }
  EXPECT_SYS(close(stage->target));
  return NULL;
}

static void a_chain_of_pipes_passes_everything(void) {
  enum { kStages = 20, kValues = 200 };
  struct Stage stages[kStages];
  pthread_t threads[kStages];
  int first[2], link[2];
  EXPECT_SYS(pipe(first));
  int source = first[0];
  for (int i = 0; i < kStages; i++) {
    EXPECT_SYS(pipe(link));
    stages[i] = (struct Stage){source, link[1]};
    source = link[0];
    threads[i] = start_thread(pass_on, &stages[i]);
  }
  for (int i = 0; i < kValues; i++) write_all(first[1], &i, sizeof i);
  EXPECT_SYS(close(first[1]));
  for (int i = 0; i < kValues; i++) {
    int value;
    EXPECT_EQ(read_all(source, &value, sizeof value), sizeof value);
    EXPECT_EQ(value, i + kStages);
  }
  char byte;
  EXPECT_EQ(read(source, &byte, 1), 0);
  for (int i = 0; i < kStages; i++) join_thread(threads[i]);
}

static void* open_and_write(void* path) {
  const int fd = (int)EXPECT_SYS(open(path, O_WRONLY));
  write_all(fd, "fifo", 4);
  EXPECT_SYS(close(fd));
  return NULL;
}

static void opening_a_fifo_waits_for_the_other_end(void) {
  char folder[kPathMax], path[kPathMax + 5], text[8];
  temporary_template(folder);
  EXPECT(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/fifo", folder);
  EXPECT_SYS(mkfifo(path, 0600));
  EXPECT_ERRNO(open(path, O_WRONLY | O_NONBLOCK), ENXIO);
  const pthread_t writer = start_thread(open_and_write, path);
  settle();
  const int fd = (int)EXPECT_SYS(open(path, O_RDONLY));
  EXPECT_EQ(read_all(fd, text, sizeof text), 4);
  join_thread(writer);
  EXPECT_SYS(close(fd));
  EXPECT_SYS(unlink(path));
  EXPECT_SYS(rmdir(folder));
}

int main(void) {
  RUN(records_are_not_torn);
  RUN(a_large_write_waits_for_the_reader);
  RUN(a_chain_of_pipes_passes_everything);
  RUN(opening_a_fifo_waits_for_the_other_end);
  return 0;
}
