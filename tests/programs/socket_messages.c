// socket_messages.c - message calls: vectors, descriptors in messages, batches, flags.
// Checks sendmsg(2), recvmsg(2) (MSG_TRUNC, MSG_CTRUNC), unix(7) SCM_RIGHTS, recvmmsg(2),
// sendmmsg(2), recv(2) MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT, and unix(7) sequenced packets.
// SPDX-License-Identifier: Apache-2.0
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "tests/programs/loopback.h"

enum { kBatch = 16 };

static void unix_pair(int type, int ends[2]) {
  EXPECT_SYS(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends));
}

static void vectors_are_sent_whole(void) {
  int ends[2];
  tcp_pair(ends);
  char first[] = "hello ", second[] = "world";
  struct iovec out[] = {{first, 6}, {second, 5}};
  struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
  EXPECT_EQ(sendmsg(ends[0], &message, 0), 11);
  char left[3], right[20];
  struct iovec in[] = {{left, 3}, {right, 8}};
  struct msghdr received = {.msg_iov = in, .msg_iovlen = 2};
  EXPECT_EQ(recvmsg(ends[1], &received, MSG_WAITALL), 11);
  EXPECT_EQ(memcmp(left, "hel", 3), 0);
  EXPECT_EQ(memcmp(right, "lo world", 8), 0);
}

union Control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

static void send_descriptor(int channel, int fd) {
  char byte = 'd';
  union Control control;
  memset(&control, 0, sizeof control);
  struct iovec vector = {&byte, 1};
  struct msghdr message = {.msg_iov = &vector,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  EXPECT_EQ(sendmsg(channel, &message, 0), 1);
}

static int receive_descriptor(int channel) {
  char byte;
  int fd;
  union Control control;
  struct iovec vector = {&byte, 1};
  struct msghdr message = {.msg_iov = &vector,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  EXPECT_EQ(recvmsg(channel, &message, MSG_CMSG_CLOEXEC), 1);
  const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  EXPECT(header != NULL && header->cmsg_type == SCM_RIGHTS);
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  EXPECT_EQ(EXPECT_SYS(fcntl(fd, F_GETFD)), FD_CLOEXEC);
  return fd;
}

static void* write_to_received(void* channel) {
  const int fd = receive_descriptor((int)(intptr_t)channel);
  EXPECT_EQ(write(fd, "through", 7), 7);
  EXPECT_SYS(close(fd));
  return NULL;
}

static void descriptors_travel_in_messages(void) {
  int channel[2], ends[2];
  char text[7];
  unix_pair(SOCK_STREAM, channel);
  EXPECT_SYS(pipe(ends));
  const pthread_t receiver = start_thread(write_to_received, (void*)(intptr_t)channel[1]);
  settle();
  send_descriptor(channel[0], ends[1]);
  EXPECT_SYS(close(ends[1]));
  EXPECT_EQ(read_all(ends[0], text, 7), 7);
  EXPECT_EQ(memcmp(text, "through", 7), 0);
  // The last writer is gone with the thread's copy.
  EXPECT_EQ(read(ends[0], text, 1), 0);
  join_thread(receiver);
}

static void* send_batch(void* argument) {
  const int fd = (int)(intptr_t)argument;
  struct mmsghdr messages[kBatch];
  struct iovec vectors[kBatch];
  char texts[kBatch][16];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < kBatch; i++) {
    vectors[i].iov_len = (size_t)snprintf(texts[i], sizeof texts[i], "message %d", i);
    vectors[i].iov_base = texts[i];
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  settle();
  int sent = 0;
  while (sent < kBatch) {
    sent += (int)EXPECT_SYS(sendmmsg(fd, messages + sent, (unsigned)(kBatch - sent), 0));
  }
  return NULL;
}

static void batches_arrive_in_order(void) {
  int ends[2];
  unix_pair(SOCK_DGRAM, ends);
  const pthread_t sender = start_thread(send_batch, (void*)(intptr_t)ends[0]);
  struct mmsghdr messages[kBatch];
  struct iovec vectors[kBatch];
  char texts[kBatch][16], expected[16];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < kBatch; i++) {
    vectors[i] = (struct iovec){texts[i], sizeof texts[i]};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  int count = 0;
  while (count < kBatch) {
    count += (int)EXPECT_SYS(
        recvmmsg(ends[1], messages + count, (unsigned)(kBatch - count), MSG_WAITFORONE, NULL));
  }
  for (int i = 0; i < kBatch; i++) {
    EXPECT_EQ(messages[i].msg_len, snprintf(expected, sizeof expected, "message %d", i));
    EXPECT_EQ(memcmp(texts[i], expected, messages[i].msg_len), 0);
  }
  join_thread(sender);
  EXPECT_ERRNO(recvmmsg(ends[1], messages, kBatch, MSG_DONTWAIT, NULL), EAGAIN);
}

static void* send_halves(void* argument) {
  const int fd = (int)(intptr_t)argument;
  write_all(fd, "first ", 6);
  settle();
  write_all(fd, "second", 6);
  return NULL;
}

static void flags_do_what_they_say(void) {
  int ends[2];
  char text[32];
  tcp_pair(ends);
  EXPECT_ERRNO(recv(ends[1], text, 1, MSG_DONTWAIT), EAGAIN);
  const pthread_t sender = start_thread(send_halves, (void*)(intptr_t)ends[0]);
  EXPECT_EQ(recv(ends[1], text, 1, MSG_PEEK), 1);
  EXPECT_EQ(text[0], 'f');
  EXPECT_EQ(recv(ends[1], text, 12, MSG_WAITALL), 12);
  EXPECT_EQ(memcmp(text, "first second", 12), 0);
  join_thread(sender);
  EXPECT_EQ(send(ends[0], "tail", 4, 0), 4);
  EXPECT_SYS(shutdown(ends[0], SHUT_WR));
  // MSG_WAITALL may return less at the end of the stream.
  EXPECT_EQ(recv(ends[1], text, 12, MSG_WAITALL), 4);
  EXPECT_EQ(recv(ends[1], text, 12, MSG_WAITALL), 0);
}

static void truncation_is_told(void) {
  int ends[2];
  char small[4];
  unix_pair(SOCK_SEQPACKET, ends);
  EXPECT_EQ(send(ends[0], "longer than that", 16, 0), 16);
  struct iovec vector = {small, sizeof small};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  EXPECT_EQ(recvmsg(ends[1], &message, 0), 4);
  EXPECT_EQ(message.msg_flags & MSG_TRUNC, MSG_TRUNC);
  EXPECT_EQ(send(ends[0], "longer than that", 16, 0), 16);
  EXPECT_EQ(recv(ends[1], small, sizeof small, MSG_TRUNC), 16);
  EXPECT_EQ(send(ends[0], "ab", 2, 0), 2);
  EXPECT_EQ(send(ends[0], "cd", 2, 0), 2);
  EXPECT_EQ(recv(ends[1], small, sizeof small, 0), 2);
  EXPECT_SYS(close(ends[0]));
  EXPECT_EQ(recv(ends[1], small, sizeof small, 0), 2);
  EXPECT_EQ(recv(ends[1], small, sizeof small, 0), 0);
}

int main(void) {
  RUN(vectors_are_sent_whole);
  RUN(descriptors_travel_in_messages);
  RUN(batches_arrive_in_order);
  RUN(flags_do_what_they_say);
  RUN(truncation_is_told);
  return 0;
}
