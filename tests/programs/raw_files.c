// raw_files.c - opening, duplicating, closing, writing out and executing files by call number.
// Checks open(2), creat(2), openat2(2), fifo(7) "blocks until the other end is opened", dup3(2),
// close_range(2), preadv2(2), fallocate(2), sync(2), sync_file_range(2), msync(2),
// copy_file_range(2), vmsplice(2) and execveat(2), each from threads beside one another.
// SPDX-License-Identifier: Apache-2.0
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

enum {
  kThreads = 8,
  kPage = 4096,
  kHighFd = 700,
  kHighFds = 8,
  kUnshareFiles = 2,  // CLOSE_RANGE_UNSHARE
  kCloseOnExec = 4    // CLOSE_RANGE_CLOEXEC
};

static char folder[kPathMax];

static void path_in_folder(char path[kPathMax], const char* name, int number) {
  EXPECT(snprintf(path, kPathMax, "%.400s/%s-%d", folder, name, number) < kPathMax);
}

static void run_threads(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(body, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void* open_each_way(void* argument) {
  char path[kPathMax], byte = 0;
  path_in_folder(path, "file", (int)(intptr_t)argument);
  const int created = (int)EXPECT_SYS(syscall(SYS_creat, path, 0600));
  EXPECT_EQ(write(created, "c", 1), 1);
  EXPECT_ERRNO(read(created, &byte, 1), EBADF);
  const int opened = (int)EXPECT_SYS(syscall(SYS_open, path, O_RDONLY));
  EXPECT_EQ(read(opened, &byte, 1), 1);
  EXPECT_EQ(byte, 'c');
  struct open_how how = {.flags = O_RDWR | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
  const int third = (int)EXPECT_SYS(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
  EXPECT_EQ(fcntl(third, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(pread(third, &byte, 1, 0), 1);
  how.resolve = 1ull << 60;
  EXPECT_ERRNO(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how), EINVAL);
  EXPECT_SYS(syscall(SYS_creat, path, 0600));
  struct stat status;
  EXPECT_SYS(fstat(third, &status));
  EXPECT_EQ(status.st_size, 0);
  EXPECT_SYS(unlink(path));
  EXPECT_ERRNO(syscall(SYS_open, path, O_RDONLY), ENOENT);
  EXPECT_SYS(close(created));
  EXPECT_SYS(close(opened));
  EXPECT_SYS(close(third));
  return NULL;
}

static void files_open_by_every_number(void) {
  run_threads(open_each_way);
}

static void* open_reading_end(void* path) {
  char byte = 0;
  const int fd = (int)EXPECT_SYS(syscall(SYS_open, path, O_RDONLY));
  EXPECT_EQ(read(fd, &byte, 1), 1);
  EXPECT_EQ(byte, 'f');
  EXPECT_SYS(close(fd));
  return NULL;
}

// The three calls wait for the reader in the same way (fifo(7)).
static void opening_a_fifo_waits_for_its_reader(void) {
  char path[kPathMax];
  path_in_folder(path, "fifo", 0);
  EXPECT_SYS(mkfifo(path, 0600));
  for (int way = 0; way < 3; way++) {
    struct open_how how = {.flags = O_WRONLY};
    const pthread_t reader = start_thread(open_reading_end, path);
    const long fd = way == 0   ? syscall(SYS_open, path, O_WRONLY)
                    : way == 1 ? syscall(SYS_creat, path, 0600)
                               : syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    EXPECT_SYS(fd);
    EXPECT_EQ(write((int)fd, "f", 1), 1);
    join_thread(reader);
    EXPECT_SYS(close((int)fd));
  }
  EXPECT_SYS(unlink(path));
}

static int open_high_fds(int flags) {
  const int file = temporary_file();
  for (int i = 0; i < kHighFds; i++) {
    EXPECT_EQ(syscall(SYS_dup3, file, kHighFd + i, flags), kHighFd + i);
  }
  return file;
}

static void dup3_and_close_range_keep_to_their_range(void) {
  const int file = open_high_fds(0);
  EXPECT_ERRNO(syscall(SYS_dup3, file, file, 0), EINVAL);
  EXPECT_ERRNO(syscall(SYS_dup3, -1, kHighFd, 0), EBADF);
  EXPECT_EQ(fcntl(kHighFd, F_GETFD), 0);
  EXPECT_SYS(syscall(SYS_close_range, kHighFd, kHighFd + 1, kCloseOnExec));
  EXPECT_EQ(fcntl(kHighFd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(kHighFd + 2, F_GETFD), 0);
  EXPECT_SYS(syscall(SYS_close_range, kHighFd + 1, kHighFd + kHighFds - 2, 0));
  EXPECT_ERRNO(fcntl(kHighFd + 1, F_GETFD), EBADF);
  EXPECT_ERRNO(fcntl(kHighFd + kHighFds - 2, F_GETFD), EBADF);
  EXPECT_SYS(fcntl(kHighFd + kHighFds - 1, F_GETFD));
  EXPECT_ERRNO(syscall(SYS_close_range, 9, 8, 0), EINVAL);
  EXPECT_SYS(close(kHighFd));
  EXPECT_SYS(close(kHighFd + kHighFds - 1));
  EXPECT_SYS(close(file));
}

static void* close_in_own_table(void* argument) {
  EXPECT_SYS(syscall(SYS_close_range, kHighFd, kHighFd + kHighFds - 1, kUnshareFiles));
  EXPECT_ERRNO(fcntl(kHighFd, F_GETFD), EBADF);
  sleep_ms(1);
  EXPECT_ERRNO(fcntl(kHighFd + 1, F_GETFD), EBADF);
  // The table is this thread's: what it opens is nobody else's.
  const int fd = (int)EXPECT_SYS(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(write(fd, "x", 1), 1);
  EXPECT_SYS(close(fd));
  return argument;
}

static void an_unshared_range_stays_open_for_the_others(void) {
  const int file = open_high_fds(O_CLOEXEC);
  run_threads(close_in_own_table);
  for (int i = 0; i < kHighFds; i++) EXPECT_EQ(fcntl(kHighFd + i, F_GETFD), FD_CLOEXEC);
  EXPECT_SYS(syscall(SYS_close_range, kHighFd, kHighFd + kHighFds - 1, 0));
  EXPECT_SYS(close(file));
}

static void* write_out_each_way(void* argument) {
  const int file = temporary_file(), copy = temporary_file();
  char text[8] = "0123456", back[8] = "";
  struct iovec out = {.iov_base = text, .iov_len = sizeof text};
  struct iovec in = {.iov_base = back, .iov_len = sizeof back};
  EXPECT_SYS(syscall(SYS_fallocate, file, 0, 0L, 2L * kPage));
  EXPECT_EQ(lseek(file, 0, SEEK_END), 2 * kPage);
  EXPECT_ERRNO(syscall(SYS_fallocate, file, 0, 0L, 0L), EINVAL);
  // preadv2(2): the offset comes in two halves, and -1 means the file's own position.
  EXPECT_EQ(syscall(SYS_pwritev2, file, &out, 1, 0L, 0L, RWF_DSYNC), sizeof text);
  EXPECT_SYS(lseek(file, 0, SEEK_SET));
  EXPECT_EQ(syscall(SYS_preadv2, file, &in, 1, -1L, -1L, 0), sizeof back);
  EXPECT_EQ(memcmp(text, back, sizeof text), 0);
  EXPECT_EQ(lseek(file, 0, SEEK_CUR), sizeof back);
  EXPECT_ERRNO(syscall(SYS_pwritev2, file, &out, 1, 0L, 0L, 1 << 30), EOPNOTSUPP);
  EXPECT_SYS(syscall(SYS_fsync, file));
  EXPECT_SYS(syscall(SYS_fdatasync, file));
  EXPECT_SYS(syscall(SYS_sync_file_range, file, 0L, (long)kPage, SYNC_FILE_RANGE_WRITE));
  EXPECT_ERRNO(syscall(SYS_fsync, -1), EBADF);
  char* pages = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  EXPECT(pages != MAP_FAILED);
  pages[1] = 'm';
  EXPECT_SYS(syscall(SYS_msync, pages, (long)kPage, MS_SYNC));
  EXPECT_ERRNO(syscall(SYS_msync, pages + 1, 1L, MS_SYNC), EINVAL);
  EXPECT_SYS(munmap(pages, kPage));
  loff_t from = 0, to = 0;
  EXPECT_EQ(syscall(SYS_copy_file_range, file, &from, copy, &to, sizeof text, 0), sizeof text);
  EXPECT_EQ(pread(copy, back, sizeof back, 0), sizeof back);
  EXPECT_EQ(back[1], 'm');
  EXPECT_SYS(close(file));
  EXPECT_SYS(close(copy));
  return argument;
}

static void files_are_written_out_by_every_number(void) {
  run_threads(write_out_each_way);
}

static void whole_file_systems_are_written_out(void) {
  const int file = temporary_file();
  EXPECT_EQ(write(file, "s", 1), 1);
  EXPECT_SYS(syscall(SYS_syncfs, file));
  EXPECT_ERRNO(syscall(SYS_syncfs, -1), EBADF);
  EXPECT_EQ(syscall(SYS_sync), 0);
  EXPECT_SYS(close(file));
}

static void* read_all(void* source) {
  char block[kPage];
  long total = 0, got;
  while ((got = EXPECT_SYS(read((int)(intptr_t)source, block, sizeof block))) > 0) total += got;
  return (void*)total;
}

static void vmsplice_waits_for_room(void) {
  static char page[kPage];
  int ends[2];
  EXPECT_SYS(pipe(ends));
  const pthread_t reader = start_thread(read_all, (void*)(intptr_t)ends[0]);
  struct iovec whole = {.iov_base = page, .iov_len = sizeof page};
  for (int i = 0; i < 100; i++) {
    EXPECT_EQ(syscall(SYS_vmsplice, ends[1], &whole, 1L, 0), (long)sizeof page);
  }
  EXPECT_SYS(close(ends[1]));
  EXPECT_EQ((intptr_t)join_thread(reader), 100 * kPage);
  EXPECT_SYS(close(ends[0]));
}

static void* run_a_program_by_descriptor(void* argument) {
  char* const arguments[] = {(char*)"sh", (char*)"-c", (char*)"exit 9", NULL};
  char* const environment[] = {NULL};
  const int program = (int)EXPECT_SYS(open("/bin/sh", O_PATH | O_CLOEXEC));
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    syscall(SYS_execveat, program, "", arguments, environment, AT_EMPTY_PATH);
    _exit(1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 9);
  EXPECT_SYS(close(program));
  return argument;
}

static void execveat_runs_what_the_descriptor_names(void) {
  run_threads(run_a_program_by_descriptor);
  EXPECT_ERRNO(syscall(SYS_execveat, AT_FDCWD, "/no/such/program", NULL, NULL, 0), ENOENT);
}

int main(void) {
  temporary_template(folder);
  EXPECT(mkdtemp(folder) != NULL);
  RUN(files_open_by_every_number);
  RUN(opening_a_fifo_waits_for_its_reader);
  RUN(dup3_and_close_range_keep_to_their_range);
  RUN(an_unshared_range_stays_open_for_the_others);
  RUN(files_are_written_out_by_every_number);
  RUN(whole_file_systems_are_written_out);
  RUN(vmsplice_waits_for_room);
  RUN(execveat_runs_what_the_descriptor_names);
  EXPECT_SYS(rmdir(folder));
  return 0;
}
