// expect.h - the checks and the deterministic report that the test programs share.
// Guarantee: a failed check ends the process at once with status 1 and one line on stderr, from any
// thread and without a stdio lock; what say() prints is one write and never waits in a buffer, so
// a fork does not print it twice. RUN() gives each subject a thread of its own, because a runtime
// that replaces threads may stay out of the way until the first one starts.
// Included by every program of this folder, C17 and C++20 alike. Read next: run_pair.py.
// SPDX-License-Identifier: Apache-2.0
#ifndef WEFT_TESTS_PROGRAMS_EXPECT_H_
#define WEFT_TESTS_PROGRAMS_EXPECT_H_

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// A wait for an event that must come: far above any honest delay, so that only a hang reaches it.
enum { kAwaitMs = 20000, kSkipStatus = 77 };
static const long long kMs = 1000000;

__attribute__((noreturn, format(printf, 3, 4))) static inline void expect_failed(const char* file,
                                                                                 int line,
                                                                                 const char* format,
                                                                                 ...) {
  char text[512];
  const int head = snprintf(text, sizeof text - 1, "%s:%d: ", file, line);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + head, sizeof text - 1 - (size_t)head, format, arguments);
  va_end(arguments);
  strcat(text, "\n");
  // Nothing is left to do if stderr refuses the line: the status tells it too.
  if (write(STDERR_FILENO, text, strlen(text)) < 0) _exit(2);
  _exit(1);
}

static inline void expect_equal(const char* file, int line, const char* what, long long actual,
                                long long expected) {
  if (actual != expected) {
    expect_failed(file, line, "%s is %lld, expected %lld", what, actual, expected);
  }
}

static inline void expect_zero(const char* file, int line, const char* what, int error) {
  if (error != 0) expect_failed(file, line, "%s is %d (%s)", what, error, strerror(error));
}

static inline long expect_success(const char* file, int line, const char* what, long result) {
  if (result < 0) {
    expect_failed(file, line, "%s is %ld, errno %d (%s)", what, result, errno, strerror(errno));
  }
  return result;
}

static inline void expect_errno(const char* file, int line, const char* what, long result,
                                int expected) {
  const int actual = errno;
  if (result != -1) expect_failed(file, line, "%s is %ld, expected -1", what, result);
  if (actual != expected) {
    expect_failed(file, line, "%s: errno %d (%s), expected %d", what, actual, strerror(actual),
                  expected);
  }
}

#define EXPECT(condition) \
  ((condition) ? (void)0 : expect_failed(__FILE__, __LINE__, "%s is false", #condition))
#define EXPECT_EQ(actual, expected) \
  expect_equal(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))
// For functions that return an error number, as most of pthreads do.
#define EXPECT_OK(expression) expect_zero(__FILE__, __LINE__, #expression, (expression))
// For functions that return -1 and set errno; the value is the function's own.
#define EXPECT_SYS(expression) expect_success(__FILE__, __LINE__, #expression, (long)(expression))
#define EXPECT_ERRNO(expression, code) \
  expect_errno(__FILE__, __LINE__, #expression, (long)(expression), (code))

__attribute__((format(printf, 1, 2))) static inline void say(const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  EXPECT(length > 0 && (size_t)length < sizeof text);
  EXPECT_EQ(write(STDOUT_FILENO, text, (size_t)length), length);
}

// Leaves with the status that means "this kernel or machine cannot show it".
__attribute__((noreturn)) static inline void skip(const char* reason) {
  say("skipped: %s\n", reason);
  _exit(kSkipStatus);
}

static inline struct timespec timespec_from_ns(long long ns) {
  struct timespec time;
  time.tv_sec = (time_t)(ns / 1000000000);
  time.tv_nsec = (long)(ns % 1000000000);
  return time;
}

static inline long long clock_ns(clockid_t clock) {
  struct timespec time;
  EXPECT_SYS(clock_gettime(clock, &time));
  return (long long)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline void sleep_ms(long long ms) {
  struct timespec left = timespec_from_ns(ms * kMs);
  while (nanosleep(&left, &left) != 0) EXPECT_EQ(errno, EINTR);
}

// Gives another thread time to block, so that the interesting path is the likely one. Every
// caller's result is the same when it has not blocked yet.
static inline void settle(void) {
  sleep_ms(10);
}

// Waits for an event that other threads bring about; a hang is a failure that names the event.
#define AWAIT(condition)                                                       \
  do {                                                                         \
    const long long await_end = clock_ns(CLOCK_MONOTONIC) + kAwaitMs * kMs;    \
    while (!(condition)) {                                                     \
      if (clock_ns(CLOCK_MONOTONIC) > await_end) {                             \
        expect_failed(__FILE__, __LINE__, "%s did not come true", #condition); \
      }                                                                        \
      sleep_ms(1);                                                             \
    }                                                                          \
  } while (0)

static inline pthread_t start_thread(void* (*body)(void*), void* argument) {
  pthread_t thread;
  EXPECT_OK(pthread_create(&thread, NULL, body, argument));
  return thread;
}

static inline void* join_thread(pthread_t thread) {
  void* result = NULL;
  EXPECT_OK(pthread_join(thread, &result));
  return result;
}

typedef void (*Subject)(void);

static inline void* subject_body(void* subject) {
  (*(Subject*)subject)();
  return NULL;
}

static inline void run_subject(const char* name, Subject subject) {
  join_thread(start_thread(subject_body, &subject));
  say("ok %s\n", name);
}

// Runs one subject on a new thread and reports it; RUN_ON_MAIN() keeps it on the first thread.
#define RUN(subject) run_subject(#subject, subject)
#define RUN_ON_MAIN(subject) ((subject)(), say("ok %s\n", #subject))

enum { kPathMax = 512 };

// A template for mkstemp() or mkdtemp() in the folder that the runner removes after the run.
static inline void temporary_template(char path[kPathMax]) {
  const char* folder = getenv("TMPDIR");
  snprintf(path, kPathMax, "%s/weft-program-XXXXXX", folder != NULL ? folder : "/tmp");
}

// An open file without a name: gone when its last descriptor is.
static inline int temporary_file(void) {
  char path[kPathMax];
  temporary_template(path);
  const int fd = (int)EXPECT_SYS(mkostemp(path, O_CLOEXEC));
  EXPECT_SYS(unlink(path));
  return fd;
}

#endif  // WEFT_TESTS_PROGRAMS_EXPECT_H_
