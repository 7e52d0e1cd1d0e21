// signals_restart.c - a signal during a blocking call: EINTR, or the call goes on.
// Checks signal(7), "Interruption of system calls and library functions by signal handlers": read
// with and without SA_RESTART, the calls that never restart (poll, nanosleep, sem_timedwait),
// timers.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

#include "tests/programs/loopback.h"

static atomic_int alarms;
static int feed_fd = -1, feed_after;
static pthread_t alarmed_thread;

// Writes a byte once enough alarms came, so that a call which restarts comes to its end.
static void count_alarm(int signal) {
  const int kept = errno;
  (void)signal;
  alarmed_thread = pthread_self();
  if (++alarms == feed_after && feed_fd >= 0) EXPECT_EQ(write(feed_fd, "f", 1), 1);
  errno = kept;
}

// Only the thread under test takes alarms, and only while start_alarms() to stop_alarms().
static void change_alarm_mask(int how) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  EXPECT_OK(pthread_sigmask(how, &set, NULL));
}

static void start_alarms(int flags, int fd, int after) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = count_alarm;
  action.sa_flags = flags;
  EXPECT_SYS(sigaction(SIGALRM, &action, NULL));
  alarms = 0;
  feed_fd = fd;
  feed_after = after;
  // Repeated, because one alarm could come before the call blocks.
  const struct itimerval every = {{0, 5000}, {0, 5000}};
  EXPECT_SYS(setitimer(ITIMER_REAL, &every, NULL));
  change_alarm_mask(SIG_UNBLOCK);
}

static void stop_alarms(void) {
  const struct itimerval never = {{0, 0}, {0, 0}};
  EXPECT_SYS(setitimer(ITIMER_REAL, &never, NULL));
  change_alarm_mask(SIG_BLOCK);
}

static void read_is_interrupted_without_restart(void) {
  int ends[2];
  char byte;
  EXPECT_SYS(pipe(ends));
  start_alarms(0, -1, 0);
  EXPECT_ERRNO(read(ends[0], &byte, 1), EINTR);
  stop_alarms();
  EXPECT(alarms >= 1);
  EXPECT(pthread_equal(alarmed_thread, pthread_self()));
  // Nothing was lost: what is written now is what is read.
  EXPECT_EQ(write(ends[1], "a", 1), 1);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'a');
}

static void read_goes_on_with_restart(void) {
  int ends[2];
  char byte;
  EXPECT_SYS(pipe(ends));
  start_alarms(SA_RESTART, ends[1], 3);
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  stop_alarms();
  EXPECT_EQ(byte, 'f');
  EXPECT(alarms >= 3);
}

static void sockets_do_the_same(void) {
  int ends[2];
  char byte;
  tcp_pair(ends);
  start_alarms(0, -1, 0);
  EXPECT_ERRNO(recv(ends[0], &byte, 1, 0), EINTR);
  const int listener = bind_loopback(SOCK_STREAM);
  EXPECT_ERRNO(accept(listener, NULL, NULL), EINTR);
  start_alarms(SA_RESTART, ends[1], 3);
  EXPECT_EQ(recv(ends[0], &byte, 1, 0), 1);
  // signal(7): with a receive timeout set, recv fails with EINTR in spite of SA_RESTART.
  const struct timeval timeout = {kAwaitMs / 1000, 0};
  EXPECT_SYS(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
  EXPECT_ERRNO(recv(ends[0], &byte, 1, 0), EINTR);
  stop_alarms();
}

static void some_calls_never_restart(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  start_alarms(SA_RESTART, -1, 0);
  struct pollfd polled = {.fd = ends[0], .events = POLLIN};
  EXPECT_ERRNO(poll(&polled, 1, kAwaitMs), EINTR);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(ends[0], &set);
  EXPECT_ERRNO(select(ends[0] + 1, &set, NULL, NULL, NULL), EINTR);
  struct timespec left = {kAwaitMs / 1000, 0};
  EXPECT_ERRNO(nanosleep(&left, &left), EINTR);
  EXPECT(left.tv_sec < kAwaitMs / 1000 && left.tv_sec > 0);
  const struct timespec later = {kAwaitMs / 1000, 0};
  EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &later, &left), EINTR);
  EXPECT_ERRNO(pause(), EINTR);
  stop_alarms();
}

static void semaphores_are_interrupted(void) {
  sem_t semaphore;
  EXPECT_SYS(sem_init(&semaphore, 0, 0));
  start_alarms(0, -1, 0);
  EXPECT_ERRNO(sem_wait(&semaphore), EINTR);
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_REALTIME) + kAwaitMs * kMs);
  EXPECT_ERRNO(sem_timedwait(&semaphore, &limit), EINTR);
  stop_alarms();
}

static void mutexes_and_conditions_are_not_interrupted(void) {
  // pthread_mutex_lock and pthread_cond_timedwait "shall not return an error code of EINTR".
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t never = PTHREAD_COND_INITIALIZER;
  start_alarms(0, -1, 0);
  EXPECT_OK(pthread_mutex_lock(&lock));
  const struct timespec limit = timespec_from_ns(clock_ns(CLOCK_REALTIME) + 40 * kMs);
  int error = 0;
  while (error == 0) error = pthread_cond_timedwait(&never, &lock, &limit);
  EXPECT_EQ(error, ETIMEDOUT);
  EXPECT_OK(pthread_mutex_unlock(&lock));
  stop_alarms();
  EXPECT(alarms >= 1);
}

static void a_partial_transfer_is_a_short_count(void) {
  int ends[2];
  static char block[1024 * 1024];
  EXPECT_SYS(pipe(ends));
  start_alarms(0, -1, 0);
  const long count = EXPECT_SYS(write(ends[1], block, sizeof block));
  stop_alarms();
  EXPECT(count > 0 && count < (long)sizeof block);
}

static atomic_int timer_calls;

static void count_timer_call(union sigval value) {
  EXPECT_EQ(value.sival_int, 77);
  timer_calls++;
}

static void a_timer_can_start_threads(void) {
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD;
  event.sigev_notify_function = count_timer_call;
  event.sigev_value.sival_int = 77;
  timer_t timer;
  EXPECT_SYS(timer_create(CLOCK_MONOTONIC, &event, &timer));
  const struct itimerspec every = {{0, 2 * 1000000}, {0, 2 * 1000000}};
  EXPECT_SYS(timer_settime(timer, 0, &every, NULL));
  AWAIT(timer_calls >= 3);
  EXPECT_SYS(timer_delete(timer));
}

int main(void) {
  change_alarm_mask(SIG_BLOCK);
  RUN_ON_MAIN(read_is_interrupted_without_restart);
  RUN_ON_MAIN(read_goes_on_with_restart);
  RUN(read_is_interrupted_without_restart);
  RUN(read_goes_on_with_restart);
  RUN(sockets_do_the_same);
  RUN(some_calls_never_restart);
  RUN(semaphores_are_interrupted);
  RUN(mutexes_and_conditions_are_not_interrupted);
  RUN(a_partial_transfer_is_a_short_count);
  RUN(a_timer_can_start_threads);
  // And on the first thread once more, now that others have been started.
  RUN_ON_MAIN(some_calls_never_restart);
  RUN_ON_MAIN(a_partial_transfer_is_a_short_count);
  return 0;
}
