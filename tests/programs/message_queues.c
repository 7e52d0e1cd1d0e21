// message_queues.c - POSIX message queues, System V semaphores and System V messages between
// threads. Checks mq_receive(3), mq_timedsend(3) "ETIMEDOUT", mq priorities, semop(2) and
// semtimedop(2) "EAGAIN", "EIDRM" for a removed set, msgrcv(2) types and "ENOMSG".
// SPDX-License-Identifier: Apache-2.0
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

#include "tests/programs/expect.h"

enum { kMessages = 100, kQueueMax = 4, kTextBytes = 16 };

static mqd_t queue;

static void open_queue(void) {
  char name[64];
  struct mq_attr attributes = {.mq_maxmsg = kQueueMax, .mq_msgsize = kTextBytes};
  snprintf(name, sizeof name, "/weft-program-%d", (int)getpid());
  queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
  if (queue == (mqd_t)-1 && (errno == ENOSYS || errno == EMFILE || errno == ENOSPC)) {
    skip("no POSIX message queue can be made here");
  }
  EXPECT_SYS(queue);
  EXPECT_SYS(mq_unlink(name));
}

static void* send_numbers(void* argument) {
  for (int i = 0; i < kMessages; i++) EXPECT_SYS(mq_send(queue, (char*)&i, sizeof i, 1));
  return argument;
}

static void a_full_queue_blocks_the_sender(void) {
  char text[kTextBytes];
  unsigned priority;
  const pthread_t sender = start_thread(send_numbers, NULL);
  settle();
  for (int i = 0; i < kMessages; i++) {
    int number;
    EXPECT_EQ(mq_receive(queue, text, sizeof text, &priority), (long)sizeof number);
    memcpy(&number, text, sizeof number);
    EXPECT_EQ(number, i);
    EXPECT_EQ(priority, 1);
  }
  join_thread(sender);
}

static void queue_waits_time_out(void) {
  char text[kTextBytes] = "text";
  const long long deadline = clock_ns(CLOCK_REALTIME) + 20 * kMs;
  const struct timespec limit = timespec_from_ns(deadline);
  EXPECT_ERRNO(mq_timedreceive(queue, text, sizeof text, NULL, &limit), ETIMEDOUT);
  EXPECT(clock_ns(CLOCK_REALTIME) >= deadline);
  for (int i = 0; i < kQueueMax; i++) EXPECT_SYS(mq_send(queue, text, 1, (unsigned)i));
  EXPECT_ERRNO(mq_timedsend(queue, text, 1, 0, &limit), ETIMEDOUT);
  EXPECT_ERRNO(mq_receive(queue, text, 1, NULL), EMSGSIZE);
  for (int i = kQueueMax - 1; i >= 0; i--) {
    unsigned priority;
    EXPECT_SYS(mq_receive(queue, text, sizeof text, &priority));
    EXPECT_EQ(priority, i);
  }
}

static int semaphores;

static void change(unsigned short number, short amount) {
  struct sembuf operation = {number, amount, 0};
  EXPECT_SYS(semop(semaphores, &operation, 1));
}

static void* answer(void* argument) {
  for (int i = 0; i < kMessages; i++) {
    change(0, -1);
    change(1, 1);
  }
  return argument;
}

static void* wait_for_removal(void* argument) {
  struct sembuf operation = {0, -1, 0};
  const long result = semop(semaphores, &operation, 1);
  EXPECT(result == -1 && (errno == EIDRM || errno == EINVAL));
  return argument;
}

static void system_v_semaphores_block_and_time_out(void) {
  semaphores = semget(IPC_PRIVATE, 2, 0600);
  if (semaphores == -1 && (errno == ENOSYS || errno == ENOSPC)) skip("no System V semaphores");
  EXPECT_SYS(semaphores);
  EXPECT_SYS(semctl(semaphores, 0, SETVAL, 0));
  EXPECT_SYS(semctl(semaphores, 1, SETVAL, 0));
  const pthread_t answering = start_thread(answer, NULL);
  for (int i = 0; i < kMessages; i++) {
    change(0, 1);
    change(1, -1);
  }
  join_thread(answering);
  struct sembuf take = {0, -1, IPC_NOWAIT};
  EXPECT_ERRNO(semop(semaphores, &take, 1), EAGAIN);
  take.sem_flg = 0;
  const struct timespec time = timespec_from_ns(30 * kMs);
  const long long start = clock_ns(CLOCK_MONOTONIC);
  EXPECT_ERRNO(semtimedop(semaphores, &take, 1, &time), EAGAIN);
  // The kernel may count in ticks of up to 10 ms here.
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 20 * kMs);
  const pthread_t waiter = start_thread(wait_for_removal, NULL);
  settle();
  EXPECT_SYS(semctl(semaphores, 0, IPC_RMID));
  join_thread(waiter);
}

struct Message {
  long type;
  int number;
};

static int messages;

static void* receive_even(void* argument) {
  struct Message message;
  for (int i = 0; i < kMessages; i += 2) {
    EXPECT_EQ(msgrcv(messages, &message, sizeof message.number, 2, 0), (long)sizeof(int));
    EXPECT_EQ(message.number, i);
  }
  return argument;
}

static void system_v_messages_choose_by_type(void) {
  struct Message message;
  messages = msgget(IPC_PRIVATE, 0600);
  if (messages == -1 && (errno == ENOSYS || errno == ENOSPC)) skip("no System V messages");
  EXPECT_SYS(messages);
  const pthread_t receiver = start_thread(receive_even, NULL);
  settle();
  for (int i = 0; i < kMessages; i++) {
    message = (struct Message){i % 2 == 0 ? 2 : 1, i};
    EXPECT_SYS(msgsnd(messages, &message, sizeof message.number, 0));
  }
  join_thread(receiver);
  for (int i = 1; i < kMessages; i += 2) {
    EXPECT_EQ(msgrcv(messages, &message, sizeof message.number, 0, 0), (long)sizeof(int));
    EXPECT_EQ(message.number, i);
  }
  EXPECT_ERRNO(msgrcv(messages, &message, sizeof message.number, 0, IPC_NOWAIT), ENOMSG);
  EXPECT_SYS(msgctl(messages, IPC_RMID, NULL));
}

int main(void) {
  open_queue();
  RUN(a_full_queue_blocks_the_sender);
  RUN(queue_waits_time_out);
  RUN(system_v_semaphores_block_and_time_out);
  RUN(system_v_messages_choose_by_type);
  return 0;
}
