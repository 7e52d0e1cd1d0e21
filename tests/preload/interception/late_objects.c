// late_objects.c - libraries that are loaded while threads exist are served like those of the start.
// The library's own instruction waits on a pipe that another thread fills later. Loaded plainly, with
// RTLD_DEEPBIND, once more after it was unloaded, and by dlmopen(3) into a namespace that has a libc
// of its own: also into one that is older than the first thread. Under the audit an instruction that
// was not patched is named on standard error, which must stay empty.
// No page is writable and executable, before, during or after.
// Argument: the path of the library made from late_calls.c.
// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

static const char* library;
static atomic_bool stop;

// One read of the whole file is not atomic; a page that were both at any moment is what counts.
static void expect_no_writable_code(void) {
  FILE* maps = fopen("/proc/self/maps", "re");
  EXPECT(maps != NULL);
  char line[512];
  while (fgets(line, sizeof line, maps) != NULL) {
    const char* protection = strchr(line, ' ');
    EXPECT(protection != NULL);
    if (protection[2] == 'w' && protection[3] == 'x') {
      expect_failed(__FILE__, __LINE__, "writable and executable: %s", line);
    }
  }
  EXPECT_EQ(fclose(maps), 0);
}

static void* watch(void* argument) {
  (void)argument;
  while (!stop) {
    expect_no_writable_code();
    sched_yield();
  }
  return NULL;
}

struct Meeting {
  int ends[2];
  long (*read_a_byte)(int);
  atomic_bool waits;
};

static void* read_in_library(void* argument) {
  struct Meeting* meeting = argument;
  meeting->waits = true;
  return (void*)meeting->read_a_byte(meeting->ends[0]);
}

static void meet_in(void* handle) {
  EXPECT(handle != NULL);
  struct Meeting meeting = {.waits = false};
  long (*write_a_byte)(int, unsigned char);
  long (*own_thread_id)(void);
  *(void**)&meeting.read_a_byte = dlsym(handle, "read_a_byte");
  *(void**)&write_a_byte = dlsym(handle, "write_a_byte");
  *(void**)&own_thread_id = dlsym(handle, "own_thread_id");
  EXPECT(meeting.read_a_byte != NULL && write_a_byte != NULL && own_thread_id != NULL);
  EXPECT_SYS(pipe(meeting.ends));
  const pthread_t reader = start_thread(read_in_library, &meeting);
  AWAIT(meeting.waits);
  settle();
  EXPECT_EQ(write_a_byte(meeting.ends[1], 'm'), 1);
  EXPECT_EQ((long)join_thread(reader), 'm');
  EXPECT_EQ(own_thread_id(), syscall(SYS_gettid));
  EXPECT_EQ(meeting.read_a_byte(-1), -EBADF);
  EXPECT_SYS(close(meeting.ends[0]));
  EXPECT_SYS(close(meeting.ends[1]));
}

static void a_late_library_is_served(void) {
  void* handle = dlopen(library, RTLD_NOW);
  meet_in(handle);
  EXPECT_EQ(dlclose(handle), 0);
}

static void one_that_was_unloaded_is_served_again(void) {
  for (int i = 0; i < 5; i++) a_late_library_is_served();
}

static void a_deep_bound_library_is_served(void) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_DEEPBIND);
  meet_in(handle);
  EXPECT_EQ(dlclose(handle), 0);
}

static void another_namespace_is_served(void) {
  void* handle = dlmopen(LM_ID_NEWLM, library, RTLD_NOW);
  meet_in(handle);
  // That namespace's own libc waits, too.
  void* other_libc = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
  EXPECT(other_libc != NULL);
  ssize_t (*other_read)(int, void*, size_t);
  *(void**)&other_read = dlsym(other_libc, "read");
  EXPECT(other_read != NULL && other_read != read);
  int ends[2];
  char byte = 'n';
  EXPECT_SYS(pipe(ends));
  EXPECT_EQ(write(ends[1], &byte, 1), 1);
  EXPECT_EQ(other_read(ends[0], &byte, 1), 1);
  EXPECT_EQ(dlclose(handle), 0);
}

// A file that happens to be a library, mapped as any file: not laid out as the loader would, so there
// is nothing to be patched, and what its headers point to is not there.
static void a_library_mapped_as_a_file_is_left_alone(void) {
  static const size_t kSizes[] = {4096, 8192, 16384};
  for (size_t i = 0; i < sizeof kSizes / sizeof kSizes[0]; i++) {
    for (off_t offset = 0; offset <= 4096; offset += 4096) {
      const int fd = (int)EXPECT_SYS(open(library, O_RDONLY | O_CLOEXEC));
      const char* file = mmap(NULL, kSizes[i], PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, offset);
      EXPECT(file != MAP_FAILED);
      char first[64];
      EXPECT_EQ(pread(fd, first, sizeof first, offset), sizeof first);
      EXPECT_SYS(close(fd));
      EXPECT_EQ(memcmp(file, first, sizeof first), 0);
      EXPECT_SYS(munmap((void*)file, kSizes[i]));
    }
  }
}

int main(int argc, char** argv) {
  EXPECT_EQ(argc, 2);
  library = argv[1];
  void* early = dlmopen(LM_ID_NEWLM, library, RTLD_NOW);
  expect_no_writable_code();
  const pthread_t watcher = start_thread(watch, NULL);
  expect_no_writable_code();
  RUN(a_late_library_is_served);
  RUN(one_that_was_unloaded_is_served_again);
  RUN(a_deep_bound_library_is_served);
  RUN(another_namespace_is_served);
  RUN(a_library_mapped_as_a_file_is_left_alone);
  meet_in(early);
  say("ok an_early_namespace_is_served\n");
  stop = true;
  join_thread(watcher);
  expect_no_writable_code();
  return 0;
}
