// raw_numbers.c - waiting and thread calls made by a number that libc never or seldom uses.
// Checks select(2), epoll_pwait2(2), semop(2), msgrcv(2), mq_timedsend(2), futex(2), futex_waitv
// and its kin (userspace-api/futex2.rst), get_robust_list(2), set_tid_address(2),
// arch_prctl(2), fork(2) and waitid(2).
// SPDX-License-Identifier: Apache-2.0
#include <linux/futex.h>
#include <mqueue.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

// Numbers and values that Debian 12's headers may lack.
enum {
  kFutexWake = 454,
  kFutexWait = 455,
  kFutexRequeue = 456,
  kSize32Private = 2 | FUTEX_PRIVATE_FLAG,
  kGetFs = 0x1003,
  kSignalBytes = 8,
  kWaiters = 8
};

struct Pipe {
  int target, source;
};

static struct Pipe make_pipe(void) {
  int ends[2];
  EXPECT_SYS(pipe(ends));
  return (struct Pipe){.target = ends[1], .source = ends[0]};
}

static void close_pipe(struct Pipe pipe_ends) {
  EXPECT_SYS(close(pipe_ends.source));
  EXPECT_SYS(close(pipe_ends.target));
}

static void* write_soon(void* target) {
  settle();
  EXPECT_EQ(write((int)(intptr_t)target, "w", 1), 1);
  return NULL;
}

static void select_waits_and_writes_the_time_left(void) {
  const struct Pipe ends = make_pipe();
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(ends.source, &readable);
  struct timeval limit = {.tv_usec = 5000};
  EXPECT_EQ(syscall(SYS_select, ends.source + 1, &readable, NULL, NULL, &limit), 0);
  EXPECT_EQ(limit.tv_sec, 0);
  EXPECT_EQ(limit.tv_usec, 0);
  EXPECT(!FD_ISSET(ends.source, &readable));
  const pthread_t writer = start_thread(write_soon, (void*)(intptr_t)ends.target);
  FD_SET(ends.source, &readable);
  limit.tv_sec = kAwaitMs / 1000;
  EXPECT_EQ(syscall(SYS_select, ends.source + 1, &readable, NULL, NULL, &limit), 1);
  EXPECT(FD_ISSET(ends.source, &readable));
  EXPECT(limit.tv_sec > 0 && limit.tv_sec < kAwaitMs / 1000);
  join_thread(writer);
  EXPECT_ERRNO(syscall(SYS_select, -1, NULL, NULL, NULL, &limit), EINVAL);
  close_pipe(ends);
}

static void epoll_pwait2_waits_to_the_nanosecond(void) {
  const struct Pipe ends = make_pipe();
  const int poller = (int)EXPECT_SYS(epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event event = {.events = EPOLLIN, .data.fd = ends.source}, found;
  EXPECT_SYS(epoll_ctl(poller, EPOLL_CTL_ADD, ends.source, &event));
  const struct timespec limit = timespec_from_ns(3 * kMs + 1);
  const long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_EQ(syscall(SYS_epoll_pwait2, poller, &found, 1, &limit, NULL, kSignalBytes), 0);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start > 3 * kMs);
  const pthread_t writer = start_thread(write_soon, (void*)(intptr_t)ends.target);
  EXPECT_EQ(syscall(SYS_epoll_pwait2, poller, &found, 1, NULL, NULL, kSignalBytes), 1);
  EXPECT_EQ(found.data.fd, ends.source);
  join_thread(writer);
  EXPECT_SYS(close(poller));
  close_pipe(ends);
}

static int semaphores;

static void* semop_up(void* argument) {
  struct sembuf up = {.sem_num = 0, .sem_op = 1};
  settle();
  EXPECT_SYS(syscall(SYS_semop, semaphores, &up, 1));
  return argument;
}

static void semop_waits_for_another_thread(void) {
  semaphores = (int)EXPECT_SYS(semget(IPC_PRIVATE, 1, 0600));
  struct sembuf down = {.sem_num = 0, .sem_op = -1, .sem_flg = IPC_NOWAIT};
  const struct timespec limit = timespec_from_ns(2 * kMs);
  EXPECT_ERRNO(syscall(SYS_semop, semaphores, &down, 1), EAGAIN);
  down.sem_flg = 0;
  EXPECT_ERRNO(syscall(SYS_semtimedop, semaphores, &down, 1, &limit), EAGAIN);
  const pthread_t other = start_thread(semop_up, NULL);
  EXPECT_SYS(syscall(SYS_semop, semaphores, &down, 1));
  join_thread(other);
  EXPECT_SYS(semctl(semaphores, 0, IPC_RMID));
}

struct Message {
  long type;
  int number;
};

static void* msgsnd_soon(void* queue) {
  const struct Message message = {.type = 2, .number = 42};
  settle();
  EXPECT_SYS(syscall(SYS_msgsnd, (int)(intptr_t)queue, &message, sizeof message.number, 0));
  return NULL;
}

static void messages_pass_between_threads(void) {
  const int queue = (int)EXPECT_SYS(msgget(IPC_PRIVATE, 0600));
  struct Message message = {0};
  EXPECT_ERRNO(syscall(SYS_msgrcv, queue, &message, sizeof message.number, 2, IPC_NOWAIT), ENOMSG);
  const pthread_t sender = start_thread(msgsnd_soon, (void*)(intptr_t)queue);
  EXPECT_EQ(syscall(SYS_msgrcv, queue, &message, sizeof message.number, 2, 0),
            sizeof message.number);
  EXPECT_EQ(message.number, 42);
  join_thread(sender);
  EXPECT_SYS(msgctl(queue, IPC_RMID, NULL));
}

static void* mq_timedsend_soon(void* queue) {
  settle();
  EXPECT_SYS(syscall(SYS_mq_timedsend, (int)(intptr_t)queue, "m", 1, 3, NULL));
  return NULL;
}

static void a_message_queue_waits_without_a_deadline(void) {
  char name[64], text[8];
  unsigned priority = 0;
  struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = sizeof text};
  snprintf(name, sizeof name, "weft-raw-%d", (int)getpid());
  const long queue = syscall(SYS_mq_open, name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  if (queue < 0) return;  // mq_overview(7): the kernel may lack them; message_queues.c tells
  EXPECT_SYS(syscall(SYS_mq_unlink, name));
  const struct timespec past = {0};
  EXPECT_ERRNO(syscall(SYS_mq_timedreceive, queue, text, sizeof text, &priority, &past), ETIMEDOUT);
  const pthread_t sender = start_thread(mq_timedsend_soon, (void*)(intptr_t)queue);
  EXPECT_EQ(syscall(SYS_mq_timedreceive, queue, text, sizeof text, &priority, NULL), 1);
  EXPECT_EQ(priority, 3);
  join_thread(sender);
  EXPECT_SYS(close((int)queue));
}

static atomic_int ready, target_tid;

static uint32_t words[2];

struct WaitedWord {  // struct futex_waitv
  uint64_t value, word;
  uint32_t flags, reserved;
};

static void* wait_for_either(void* argument) {
  struct WaitedWord both[2] = {{.word = (uintptr_t)&words[0], .flags = kSize32Private},
                               {.word = (uintptr_t)&words[1], .flags = kSize32Private}};
  atomic_fetch_add(&ready, 1);
  const long woken = syscall(SYS_futex_waitv, both, 2, 0, NULL, CLOCK_MONOTONIC);
  EXPECT(woken == 1 || (woken == -1 && errno == EAGAIN));
  return argument;
}

static void futex_waitv_waits_for_several_words(void) {
  const struct WaitedWord differs = {
      .value = 1, .word = (uintptr_t)&words[0], .flags = kSize32Private};
  if (syscall(SYS_futex_waitv, &differs, 1, 0, NULL, 0) == -1 && errno == ENOSYS) return;
  EXPECT_EQ(errno, EAGAIN);
  pthread_t threads[kWaiters];
  ready = 0;
  for (int i = 0; i < kWaiters; i++) threads[i] = start_thread(wait_for_either, NULL);
  AWAIT(ready == kWaiters);
  settle();
  __atomic_store_n(&words[1], 1, __ATOMIC_SEQ_CST);
  EXPECT(syscall(SYS_futex, &words[1], FUTEX_WAKE_PRIVATE, kWaiters, NULL, NULL, 0) <= kWaiters);
  for (int i = 0; i < kWaiters; i++) join_thread(threads[i]);
  words[1] = 0;
  const struct timespec past = {.tv_nsec = 1};
  struct WaitedWord equal = differs;
  equal.value = 0;
  EXPECT_ERRNO(syscall(SYS_futex_waitv, &equal, 1, 0, &past, CLOCK_MONOTONIC), ETIMEDOUT);
  EXPECT_ERRNO(syscall(SYS_futex_waitv, &equal, 0, 0, NULL, 0), EINVAL);
}

static void* futex_wait_once(void* argument) {
  atomic_fetch_add(&ready, 1);
  const long result = syscall(kFutexWait, &words[0], 0L, 0xffffffffL, kSize32Private, NULL, 0);
  EXPECT(result == 0 || errno == EAGAIN);
  return argument;
}

static void the_newer_futex_calls_wait_wake_and_move(void) {
  if (syscall(kFutexWake, &words[0], 0xffffffffL, 1, kSize32Private) == -1) {
    EXPECT_EQ(errno, ENOSYS);
    return;
  }
  const struct WaitedWord pair[2] = {{.word = (uintptr_t)&words[0], .flags = kSize32Private},
                                     {.word = (uintptr_t)&words[1], .flags = kSize32Private}};
  pthread_t threads[kWaiters];
  long moved = 0, woken = 0;
  ready = 0;
  for (int i = 0; i < kWaiters; i++) threads[i] = start_thread(futex_wait_once, NULL);
  AWAIT(ready == kWaiters);
  // Wakes none and moves what waits by now, until all of them do.
  const long long end = clock_ns(CLOCK_MONOTONIC) + kAwaitMs * kMs;
  while (moved < kWaiters && clock_ns(CLOCK_MONOTONIC) < end) {
    moved += EXPECT_SYS(syscall(kFutexRequeue, pair, 0, 0, kWaiters));
    sleep_ms(1);
  }
  EXPECT_EQ(moved, kWaiters);
  EXPECT_EQ(syscall(kFutexWake, &words[0], 0xffffffffL, kWaiters, kSize32Private), 0);
  while (woken < kWaiters) {
    const long step = syscall(kFutexWake, &words[1], 0xffffffffL, 3, kSize32Private);
    EXPECT(step > 0 && step <= 3);
    woken += step;
  }
  for (int i = 0; i < kWaiters; i++) join_thread(threads[i]);
  EXPECT_ERRNO(syscall(kFutexWait, &words[0], 1L, 0xffffffffL, kSize32Private, NULL, 0), EAGAIN);
}

static uint32_t tid_word;

static void* leave_by_another_word(void* argument) {
  EXPECT_EQ(syscall(SYS_set_tid_address, &tid_word), gettid());
  return argument;
}

// The kernel clears the word and wakes it as a shared futex (set_tid_address(2)). The thread is
// detached: a joiner would wait for the word that libc had given.
static void the_word_of_set_tid_address_is_cleared(void) {
  tid_word = 1;
  EXPECT_OK(pthread_detach(start_thread(leave_by_another_word, NULL)));
  while (__atomic_load_n(&tid_word, __ATOMIC_SEQ_CST) != 0) {
    const struct timespec limit = timespec_from_ns(kAwaitMs * kMs);
    const long result = syscall(SYS_futex, &tid_word, FUTEX_WAIT, 1, &limit, NULL, 0);
    EXPECT(result == 0 || errno == EAGAIN);
  }
}

static void* report_robust_list(void* head) {
  size_t bytes = 0;
  EXPECT_SYS(syscall(SYS_get_robust_list, 0, head, &bytes));
  EXPECT_EQ(bytes, 24);
  target_tid = gettid();
  ready = 1;
  AWAIT(ready == 2);
  return NULL;
}

static void robust_lists_and_fs_are_the_threads_own(void) {
  void *mine = NULL, *theirs = NULL, *seen = NULL;
  size_t bytes = 0;
  ready = 0;
  const pthread_t other = start_thread(report_robust_list, &theirs);
  AWAIT(ready == 1);
  EXPECT_SYS(syscall(SYS_get_robust_list, 0, &mine, &bytes));
  EXPECT_SYS(syscall(SYS_get_robust_list, target_tid, &seen, &bytes));
  EXPECT(seen == theirs);
  EXPECT(mine != theirs);
  ready = 2;
  join_thread(other);
  unsigned long fs = 0;
  EXPECT_SYS(syscall(SYS_arch_prctl, kGetFs, &fs));
  EXPECT(fs == (unsigned long)pthread_self());
}

static void fork_and_waitid_by_number(void) {
  const long child = EXPECT_SYS(syscall(SYS_fork));
  if (child == 0) {
    sleep_ms(5);
    _exit(33);
  }
  siginfo_t info = {0};
  EXPECT_SYS(syscall(SYS_waitid, P_PID, child, &info, WEXITED | WNOWAIT, NULL));
  EXPECT_EQ(info.si_status, 33);
  int status = 0;
  EXPECT_EQ(syscall(SYS_wait4, child, &status, 0, NULL), child);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 33);
  EXPECT_ERRNO(syscall(SYS_waitid, P_PID, child, &info, WEXITED, NULL), ECHILD);
}

int main(void) {
  RUN(select_waits_and_writes_the_time_left);
  RUN(epoll_pwait2_waits_to_the_nanosecond);
  RUN(semop_waits_for_another_thread);
  RUN(messages_pass_between_threads);
  RUN(a_message_queue_waits_without_a_deadline);
  RUN(futex_waitv_waits_for_several_words);
  RUN(the_newer_futex_calls_wait_wake_and_move);
  RUN(the_word_of_set_tid_address_is_cleared);
  RUN(robust_lists_and_fs_are_the_threads_own);
  RUN(fork_and_waitid_by_number);
  return 0;
}
