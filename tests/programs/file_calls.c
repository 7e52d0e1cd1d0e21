// file_calls.c - reads and writes of files from many threads: positions, vectors, appending.
// Checks read(2) and write(2) (POSIX 2.9.7: they are atomic to each other on regular files),
// pread(2), readv(2), preadv(2), open(2) O_APPEND, lseek(2) and fsync(2).
// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <sys/uio.h>

#include "tests/programs/expect.h"

enum { kThreads = 16, kRecords = 100, kRecordBytes = 64 };

static int shared_fd;

static void fill_record(char* record, int thread, int number) {
  memset(record, 'A' + thread, kRecordBytes);
  snprintf(record, kRecordBytes, "%03d %03d", thread, number);
}

static void check_record(const char* record, int* next) {
  int thread, number;
  EXPECT(sscanf(record, "%d %d", &thread, &number) == 2);
  EXPECT(thread >= 0 && thread < kThreads);
  EXPECT_EQ(number, next[thread]);
  next[thread]++;
  EXPECT_EQ(record[kRecordBytes - 1], 'A' + thread);
}

static void* write_records(void* argument) {
  char record[kRecordBytes];
  for (int i = 0; i < kRecords; i++) {
    fill_record(record, (int)(intptr_t)argument, i);
    EXPECT_EQ(write(shared_fd, record, kRecordBytes), kRecordBytes);
  }
  return NULL;
}

static void expect_all_records(int fd) {
  char record[kRecordBytes];
  int next[kThreads] = {0};
  for (int i = 0; i < kThreads * kRecords; i++) {
    EXPECT_EQ(pread(fd, record, kRecordBytes, (off_t)i * kRecordBytes), kRecordBytes);
    check_record(record, next);
  }
  EXPECT_EQ(pread(fd, record, kRecordBytes, (off_t)kThreads * kRecords * kRecordBytes), 0);
}

static void write_from_many_threads(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(write_records, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void a_shared_position_moves_once_for_each_write(void) {
  shared_fd = temporary_file();
  write_from_many_threads();
  EXPECT_EQ(lseek(shared_fd, 0, SEEK_CUR), kThreads * kRecords * kRecordBytes);
  expect_all_records(shared_fd);
  EXPECT_SYS(close(shared_fd));
}

static void appending_never_overwrites(void) {
  shared_fd = temporary_file();
  EXPECT_SYS(fcntl(shared_fd, F_SETFL, O_APPEND));
  EXPECT_EQ(lseek(shared_fd, 0, SEEK_SET), 0);
  write_from_many_threads();
  expect_all_records(shared_fd);
  EXPECT_SYS(fsync(shared_fd));
  EXPECT_SYS(fdatasync(shared_fd));
  EXPECT_SYS(close(shared_fd));
}

static void* use_own_region(void* argument) {
  const int self = (int)(intptr_t)argument;
  char record[kRecordBytes], copy[kRecordBytes];
  for (int i = 0; i < kRecords; i++) {
    const off_t offset = ((off_t)i * kThreads + self) * kRecordBytes;
    fill_record(record, self, i);
    EXPECT_EQ(pwrite(shared_fd, record, kRecordBytes, offset), kRecordBytes);
    EXPECT_EQ(pread(shared_fd, copy, kRecordBytes, offset), kRecordBytes);
    EXPECT_EQ(memcmp(record, copy, kRecordBytes), 0);
  }
  return NULL;
}

static void positioned_calls_leave_the_position_alone(void) {
  shared_fd = temporary_file();
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(use_own_region, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  EXPECT_EQ(lseek(shared_fd, 0, SEEK_CUR), 0);
  expect_all_records(shared_fd);
  EXPECT_SYS(close(shared_fd));
}

static void vectors_gather_and_scatter(void) {
  const int fd = temporary_file();
  char first[] = "gather", second[] = " and ", third[] = "scatter";
  const struct iovec out[] = {{first, 6}, {second, 5}, {third, 7}};
  EXPECT_EQ(writev(fd, out, 3), 18);
  char head[4], tail[20];
  const struct iovec in[] = {{head, 4}, {tail, sizeof tail}};
  EXPECT_EQ(readv(fd, in, 2), 0);
  EXPECT_EQ(preadv(fd, in, 2, 0), 18);
  EXPECT_EQ(memcmp(head, "gath", 4), 0);
  EXPECT_EQ(memcmp(tail, "er and scatter", 14), 0);
  EXPECT_EQ(pwritev(fd, out, 3, 100), 18);
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 18);
  EXPECT_EQ(preadv2(fd, in, 2, 100, 0), 18);
  EXPECT_EQ(lseek(fd, 0, SEEK_END), 118);
  // Volatile, because the compiler warns of what the kernel is to refuse.
  volatile int wrong_count = -1;
  EXPECT_ERRNO(readv(fd, in, wrong_count), EINVAL);
  EXPECT_SYS(close(fd));
}

static void ends_and_errors_are_the_kernels(void) {
  const int fd = temporary_file();
  char byte = 'q';
  EXPECT_EQ(read(fd, &byte, 1), 0);
  EXPECT_EQ(write(fd, &byte, 0), 0);
  EXPECT_ERRNO(pread(fd, &byte, 1, -1), EINVAL);
  EXPECT_ERRNO(read(-1, &byte, 1), EBADF);
  void* volatile nowhere = (void*)8;
  EXPECT_ERRNO(write(fd, nowhere, 1), EFAULT);
  const int readable = (int)EXPECT_SYS(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  EXPECT_ERRNO(write(readable, &byte, 1), EBADF);
  EXPECT_EQ(read(readable, &byte, 1), 1);
  EXPECT_EQ(byte, 0);
  EXPECT_ERRNO(read((int)EXPECT_SYS(open("/", O_RDONLY | O_CLOEXEC)), &byte, 1), EISDIR);
  const int full = (int)EXPECT_SYS(open("/dev/full", O_WRONLY | O_CLOEXEC));
  EXPECT_ERRNO(write(full, &byte, 1), ENOSPC);
  struct stat status;
  EXPECT_SYS(ftruncate(fd, 5000));
  EXPECT_SYS(posix_fallocate(fd, 0, 8192));
  EXPECT_SYS(fstat(fd, &status));
  EXPECT_EQ(status.st_size, 8192);
}

int main(void) {
  RUN(a_shared_position_moves_once_for_each_write);
  RUN(appending_never_overwrites);
  RUN(positioned_calls_leave_the_position_alone);
  RUN(vectors_gather_and_scatter);
  RUN(ends_and_errors_are_the_kernels);
  return 0;
}
