// event_descriptors.c - blocking reads of eventfd, timerfd, signalfd and inotify, and a pidfd.
// Checks eventfd(2) (a read of zero and a write past the maximum block), timerfd_create(2) (the
// read gives the number of expirations), signalfd(2), inotify(7) and pidfd_open(2): blocking reads.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

enum { kPairs = 10, kRounds = 200 };

struct Pair {
  int ping;
  int pong;
};

static void* answer_pings(void* argument) {
  const struct Pair* pair = argument;
  eventfd_t value;
  for (int i = 0; i < kRounds; i++) {
    EXPECT_SYS(eventfd_read(pair->ping, &value));
    EXPECT_EQ(value, i + 1);
    EXPECT_SYS(eventfd_write(pair->pong, 1));
  }
  return NULL;
}

static void* send_pings(void* argument) {
  const struct Pair* pair = argument;
  eventfd_t value;
  for (int i = 0; i < kRounds; i++) {
    EXPECT_SYS(eventfd_write(pair->ping, (eventfd_t)i + 1));
    EXPECT_SYS(eventfd_read(pair->pong, &value));
  }
  return NULL;
}

static void eventfds_wake_readers_and_writers(void) {
  struct Pair pairs[kPairs];
  pthread_t threads[2 * kPairs];
  for (int i = 0; i < kPairs; i++) {
    pairs[i].ping = (int)EXPECT_SYS(eventfd(0, EFD_CLOEXEC));
    pairs[i].pong = (int)EXPECT_SYS(eventfd(0, EFD_CLOEXEC));
    threads[2 * i] = start_thread(answer_pings, &pairs[i]);
    threads[2 * i + 1] = start_thread(send_pings, &pairs[i]);
  }
  for (int i = 0; i < 2 * kPairs; i++) join_thread(threads[i]);
}

static void* drain_counter(void* argument) {
  eventfd_t value;
  settle();
  EXPECT_SYS(eventfd_read((int)(intptr_t)argument, &value));
  EXPECT_EQ(value, UINT64_MAX - 1);
  return NULL;
}

static void a_full_counter_blocks_the_writer(void) {
  const int counter = (int)EXPECT_SYS(eventfd(0, 0));
  EXPECT_SYS(eventfd_write(counter, UINT64_MAX - 1));
  const pthread_t reader = start_thread(drain_counter, (void*)(intptr_t)counter);
  EXPECT_SYS(eventfd_write(counter, 5));
  join_thread(reader);
  eventfd_t value;
  EXPECT_SYS(eventfd_read(counter, &value));
  EXPECT_EQ(value, 5);
  const int tokens = (int)EXPECT_SYS(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
  EXPECT_SYS(eventfd_read(tokens, &value));
  EXPECT_EQ(value, 1);
  EXPECT_SYS(eventfd_read(tokens, &value));
  EXPECT_ERRNO(eventfd_read(tokens, &value), EAGAIN);
}

static void timerfds_count_expirations(void) {
  const int timer = (int)EXPECT_SYS(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const struct itimerspec once = {.it_value = {0, 20 * 1000000}};
  uint64_t expirations = 0;
  long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_SYS(timerfd_settime(timer, 0, &once, NULL));
  EXPECT_EQ(read(timer, &expirations, sizeof expirations), 8);
  EXPECT_EQ(expirations, 1);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 20 * kMs);
  const struct itimerspec every = {{0, 2 * 1000000}, {0, 2 * 1000000}};
  start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_SYS(timerfd_settime(timer, 0, &every, NULL));
  for (uint64_t total = 0; total < 10; total += expirations) {
    EXPECT_EQ(read(timer, &expirations, sizeof expirations), 8);
    EXPECT(expirations >= 1);
  }
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 20 * kMs);
  EXPECT_ERRNO(read(timer, &expirations, 4), EINVAL);
}

static void* read_signal(void* argument) {
  struct signalfd_siginfo info;
  EXPECT_EQ(read((int)(intptr_t)argument, &info, sizeof info), (long)sizeof info);
  EXPECT_EQ(info.ssi_pid, getpid());
  return (void*)(intptr_t)info.ssi_signo;
}

static void signalfds_read_process_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  const int fd = (int)EXPECT_SYS(signalfd(-1, &set, SFD_CLOEXEC));
  const pthread_t reader = start_thread(read_signal, (void*)(intptr_t)fd);
  settle();
  EXPECT_SYS(kill(getpid(), SIGUSR1));
  EXPECT_EQ((intptr_t)join_thread(reader), SIGUSR1);
  // A signal for this thread alone is read by this thread.
  EXPECT_OK(pthread_kill(pthread_self(), SIGUSR1));
  EXPECT_EQ((intptr_t)read_signal((void*)(intptr_t)fd), SIGUSR1);
}

static char watched_folder[kPathMax];

static void* create_file_later(void* argument) {
  char path[kPathMax + 4];
  settle();
  snprintf(path, sizeof path, "%s/new", watched_folder);
  EXPECT_SYS(close((int)EXPECT_SYS(open(path, O_CREAT | O_WRONLY, 0600))));
  EXPECT_SYS(unlink(path));
  return argument;
}

static void inotify_reads_wait_for_changes(void) {
  char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
  temporary_template(watched_folder);
  EXPECT(mkdtemp(watched_folder) != NULL);
  const int fd = inotify_init1(IN_CLOEXEC);
  if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
    EXPECT_SYS(rmdir(watched_folder));
    skip("no inotify instance is left for this user");
  }
  EXPECT_SYS(fd);
  EXPECT_SYS(inotify_add_watch(fd, watched_folder, IN_CREATE));
  const pthread_t creator = start_thread(create_file_later, NULL);
  EXPECT(EXPECT_SYS(read(fd, buffer, sizeof buffer)) > 0);
  const struct inotify_event* event = (const struct inotify_event*)buffer;
  EXPECT_EQ(event->mask, IN_CREATE);
  EXPECT_EQ(strcmp(event->name, "new"), 0);
  join_thread(creator);
  EXPECT_SYS(close(fd));
  EXPECT_SYS(rmdir(watched_folder));
}

static void a_pidfd_becomes_readable_at_the_end(void) {
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    sleep_ms(10);
    _exit(3);
  }
  const int fd = (int)syscall(SYS_pidfd_open, child, 0);
  if (fd >= 0) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    EXPECT_EQ(poll(&polled, 1, -1), 1);
    EXPECT_SYS(close(fd));
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 3);
}

int main(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  EXPECT_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  RUN(eventfds_wake_readers_and_writers);
  RUN(a_full_counter_blocks_the_writer);
  RUN(timerfds_count_expirations);
  RUN(signalfds_read_process_signals);
  RUN(inotify_reads_wait_for_changes);
  RUN(a_pidfd_becomes_readable_at_the_end);
  return 0;
}
