// splice_copies.c - data moved inside the kernel: splice, tee, vmsplice, sendfile, copy_file_range.
// Checks splice(2) "blocks until data is available", tee(2) (does not consume), vmsplice(2),
// sendfile(2) (the offset is advanced, not the position) and copy_file_range(2).
// SPDX-License-Identifier: Apache-2.0
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "tests/programs/loopback.h"

enum { kBytes = 300000, kPieceBytes = 16384 };

static unsigned char content[kBytes], received[kBytes];

static void expect_content(size_t length) {
  for (size_t i = 0; i < length; i++) EXPECT_EQ(received[i], content[i]);
  memset(received, 0, sizeof received);
}

static int file_with_content(void) {
  const int fd = temporary_file();
  write_all(fd, content, kBytes);
  EXPECT_EQ(lseek(fd, 0, SEEK_SET), 0);
  return fd;
}

static void* write_content(void* argument) {
  settle();
  write_all((int)(intptr_t)argument, content, kBytes);
  EXPECT_SYS(close((int)(intptr_t)argument));
  return NULL;
}

static void splice_waits_for_a_pipe(void) {
  int ends[2];
  const int target = temporary_file();
  EXPECT_SYS(pipe(ends));
  const pthread_t writer = start_thread(write_content, (void*)(intptr_t)ends[1]);
  long total = 0, count;
  while ((count = EXPECT_SYS(splice(ends[0], NULL, target, NULL, kBytes, SPLICE_F_MOVE))) > 0) {
    total += count;
  }
  EXPECT_EQ(total, kBytes);
  join_thread(writer);
  EXPECT_EQ(pread(target, received, kBytes, 0), kBytes);
  expect_content(kBytes);
}

static void splice_joins_two_sockets(void) {
  int from[2], to[2], ends[2];
  tcp_pair(from);
  tcp_pair(to);
  EXPECT_SYS(pipe(ends));
  const pthread_t writer = start_thread(write_content, (void*)(intptr_t)from[0]);
  size_t total = 0;
  long count;
  // Pieces that the second connection can always buffer: nobody reads it meanwhile.
  while ((count = EXPECT_SYS(splice(from[1], NULL, ends[1], NULL, kPieceBytes, 0))) > 0) {
    while (count > 0) {
      const long moved = EXPECT_SYS(splice(ends[0], NULL, to[0], NULL, (size_t)count, 0));
      EXPECT_EQ(read_all(to[1], received + total, (size_t)moved), moved);
      total += (size_t)moved;
      count -= moved;
    }
  }
  EXPECT_EQ(total, kBytes);
  expect_content(kBytes);
  join_thread(writer);
}

static void tee_does_not_consume(void) {
  int first[2], second[2];
  EXPECT_SYS(pipe(first));
  EXPECT_SYS(pipe(second));
  struct iovec vector = {content, 10000};
  EXPECT_EQ(vmsplice(first[1], &vector, 1, 0), 10000);
  EXPECT_EQ(tee(first[0], second[1], 10000, 0), 10000);
  EXPECT_EQ(read_all(first[0], received, 10000), 10000);
  expect_content(10000);
  EXPECT_EQ(read_all(second[0], received, 10000), 10000);
  expect_content(10000);
  EXPECT_ERRNO(tee(first[0], second[1], 1, SPLICE_F_NONBLOCK), EAGAIN);
}

static void* read_everything(void* argument) {
  EXPECT_EQ(read_all((int)(intptr_t)argument, received, kBytes), kBytes);
  return NULL;
}

static void sendfile_sends_from_its_offset(void) {
  int ends[2];
  const int file = file_with_content();
  tcp_pair(ends);
  const pthread_t reader = start_thread(read_everything, (void*)(intptr_t)ends[1]);
  off_t offset = 0;
  while (offset < kBytes) {
    EXPECT(EXPECT_SYS(sendfile(ends[0], file, &offset, (size_t)(kBytes - offset))) > 0);
  }
  join_thread(reader);
  expect_content(kBytes);
  EXPECT_EQ(lseek(file, 0, SEEK_CUR), 0);
  const int target = temporary_file();
  EXPECT_EQ(sendfile(target, file, NULL, 1000), 1000);
  EXPECT_EQ(lseek(file, 0, SEEK_CUR), 1000);
  EXPECT_EQ(sendfile(target, file, NULL, kBytes), kBytes - 1000);
  EXPECT_EQ(sendfile(target, file, NULL, kBytes), 0);
}

static void copy_file_range_copies(void) {
  const int source = file_with_content();
  const int target = temporary_file();
  off_t from = 0, to = 0;
  while (from < kBytes) {
    const long count = copy_file_range(source, &from, target, &to, (size_t)(kBytes - from), 0);
    if (count < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
      say("copy_file_range is not for this file system\n");
      return;
    }
    EXPECT(count > 0);
  }
  EXPECT_EQ(pread(target, received, kBytes, 0), kBytes);
  expect_content(kBytes);
}

int main(void) {
  for (size_t i = 0; i < kBytes; i++) content[i] = (unsigned char)(i * 31 + i / 777);
  RUN(splice_waits_for_a_pipe);
  RUN(splice_joins_two_sockets);
  RUN(tee_does_not_consume);
  RUN(sendfile_sends_from_its_offset);
  RUN(copy_file_range_copies);
  return 0;
}
