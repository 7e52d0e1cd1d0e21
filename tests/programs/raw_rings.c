// raw_rings.c - a program's own rings and the kernel's older asynchronous I/O, by call number.
// Checks io_uring_setup(2) (IORING_SETUP_SINGLE_ISSUER too), io_uring_enter(2) with a wait,
// io_uring_register(2) with the fall-back that liburing has for ring descriptors, and io_setup(2),
// io_submit(2), io_getevents(2), io_pgetevents, io_destroy(2) with a wait that another thread ends.
// SPDX-License-Identifier: Apache-2.0
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/programs/expect.h"

enum { kThreads = 6, kRounds = 20, kEntries = 8, kSingleIssuer = 1 << 12, kSignalBytes = 8 };

struct Ring {
  int fd;
  int enter_fd;             // the descriptor or the registered index
  unsigned enter_flags;
  char *sq, *cq;
  size_t sq_bytes, cq_bytes;
  struct io_uring_sqe* entries;
  struct io_uring_params parameters;
};

static void* map_ring(int fd, size_t bytes, off_t offset) {
  void* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  EXPECT(memory != MAP_FAILED);
  return memory;
}

// Returns 0, or the error number with which the kernel refuses rings or this flag.
static int open_ring(struct Ring* ring, unsigned flags) {
  memset(ring, 0, sizeof *ring);
  ring->parameters.flags = flags;
  ring->fd = (int)syscall(SYS_io_uring_setup, kEntries, &ring->parameters);
  if (ring->fd < 0) return errno;
  const struct io_uring_params* found = &ring->parameters;
  ring->sq_bytes = found->sq_off.array + found->sq_entries * sizeof(unsigned);
  ring->cq_bytes = found->cq_off.cqes + found->cq_entries * sizeof(struct io_uring_cqe);
  ring->sq = map_ring(ring->fd, ring->sq_bytes, IORING_OFF_SQ_RING);
  ring->cq = map_ring(ring->fd, ring->cq_bytes, IORING_OFF_CQ_RING);
  ring->entries = map_ring(ring->fd, found->sq_entries * sizeof *ring->entries, IORING_OFF_SQES);
  ring->enter_fd = ring->fd;
  // As liburing does: the plain descriptor serves if the registration is refused.
  struct io_uring_rsrc_update slot = {.offset = -1U, .data = (unsigned long long)ring->fd};
  if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_RING_FDS, &slot, 1) == 1) {
    ring->enter_fd = (int)slot.offset;
    ring->enter_flags = IORING_ENTER_REGISTERED_RING;
  }
  return 0;
}

static void close_ring(struct Ring* ring) {
  EXPECT_SYS(munmap(ring->entries, ring->parameters.sq_entries * sizeof *ring->entries));
  EXPECT_SYS(munmap(ring->cq, ring->cq_bytes));
  EXPECT_SYS(munmap(ring->sq, ring->sq_bytes));
  EXPECT_SYS(close(ring->fd));
}

// Submits one operation, waits for it inside the call and returns its result.
static int complete(struct Ring* ring, const struct io_uring_sqe* operation) {
  const struct io_uring_params* found = &ring->parameters;
  unsigned* tail = (unsigned*)(ring->sq + found->sq_off.tail);
  unsigned* array = (unsigned*)(ring->sq + found->sq_off.array);
  const unsigned slot = *tail & (found->sq_entries - 1);
  ring->entries[slot] = *operation;
  array[slot] = slot;
  __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
  EXPECT_EQ(syscall(SYS_io_uring_enter, ring->enter_fd, 1, 1,
                    IORING_ENTER_GETEVENTS | ring->enter_flags, NULL, kSignalBytes),
            1);
  unsigned* head = (unsigned*)(ring->cq + found->cq_off.head);
  EXPECT_EQ(__atomic_load_n((unsigned*)(ring->cq + found->cq_off.tail), __ATOMIC_ACQUIRE),
            *head + 1);
  const struct io_uring_cqe* cqe =
      (struct io_uring_cqe*)(ring->cq + found->cq_off.cqes) + (*head & (found->cq_entries - 1));
  EXPECT_EQ(cqe->user_data, operation->user_data);
  const int result = cqe->res;
  __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
  return result;
}

static void* write_in_steps(void* target) {
  for (int i = 0; i < kRounds; i++) {
    if (i % 5 == 0) sleep_ms(2);
    EXPECT_EQ(write((int)(intptr_t)target, "r", 1), 1);
  }
  return NULL;
}

static void use_ring(unsigned flags) {
  struct Ring ring;
  int ends[2];
  char byte = 0;
  // EPERM, ENOSYS: the system has none; EINVAL: a kernel before 6.0 does not know the flag.
  if (open_ring(&ring, flags) != 0) return;
  EXPECT_SYS(pipe(ends));
  const pthread_t writer = start_thread(write_in_steps, (void*)(intptr_t)ends[1]);
  const int event = (int)EXPECT_SYS(eventfd(0, EFD_CLOEXEC));
  EXPECT_SYS(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_EVENTFD, &event, 1));
  for (int i = 0; i < kRounds; i++) {
    const struct io_uring_sqe read_one = {.opcode = IORING_OP_READ,
                                          .fd = ends[0],
                                          .addr = (uintptr_t)&byte,
                                          .len = 1,
                                          .user_data = (unsigned long long)i};
    EXPECT_EQ(complete(&ring, &read_one), 1);
    EXPECT_EQ(byte, 'r');
  }
  uint64_t completions = 0;
  EXPECT_EQ(read(event, &completions, sizeof completions), sizeof completions);
  EXPECT_EQ(completions, kRounds);
  const struct io_uring_sqe nothing = {.opcode = IORING_OP_NOP, .user_data = 99};
  EXPECT_EQ(complete(&ring, &nothing), 0);
  join_thread(writer);
  close_ring(&ring);
  EXPECT_SYS(close(event));
  EXPECT_SYS(close(ends[0]));
  EXPECT_SYS(close(ends[1]));
}

static void* use_own_ring(void* flags) {
  use_ring((unsigned)(uintptr_t)flags);
  return NULL;
}

static void run_rings(unsigned flags) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) {
    threads[i] = start_thread(use_own_ring, (void*)(uintptr_t)flags);
  }
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void a_ring_of_each_thread_waits(void) {
  run_rings(0);
}

static void a_single_issuer_keeps_its_ring(void) {
  run_rings(kSingleIssuer);
}

static void* use_asynchronous_io(void* argument) {
  aio_context_t context = 0;
  int ends[2];
  if (syscall(SYS_io_setup, 4, &context) != 0) return argument;  // ENOSYS: built without it
  EXPECT_SYS(pipe(ends));
  struct iocb readable = {.aio_data = 5,
                          .aio_lio_opcode = IOCB_CMD_POLL,
                          .aio_fildes = (unsigned)ends[0],
                          .aio_buf = POLLIN};
  struct iocb* list[1] = {&readable};
  struct io_event event = {0};
  const struct timespec limit = timespec_from_ns(2 * kMs);
  EXPECT_EQ(syscall(SYS_io_submit, context, 1L, list), 1);
  EXPECT_EQ(syscall(SYS_io_getevents, context, 1L, 1L, &event, &limit), 0);
  const pthread_t writer = start_thread(write_in_steps, (void*)(intptr_t)ends[1]);
  EXPECT_EQ(syscall(SYS_io_getevents, context, 1L, 1L, &event, NULL), 1);
  EXPECT_EQ(event.data, 5);
  EXPECT_EQ(syscall(SYS_io_submit, context, 1L, list), 1);
  EXPECT_EQ(syscall(SYS_io_pgetevents, context, 1L, 1L, &event, NULL, NULL), 1);
  join_thread(writer);
  EXPECT_SYS(syscall(SYS_io_destroy, context));
  EXPECT_ERRNO(syscall(SYS_io_getevents, context, 0L, 1L, &event, &limit), EINVAL);
  EXPECT_SYS(close(ends[0]));
  EXPECT_SYS(close(ends[1]));
  return argument;
}

static void asynchronous_io_waits_for_its_events(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(use_asynchronous_io, NULL);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

int main(void) {
  RUN(a_ring_of_each_thread_waits);
  RUN(a_single_issuer_keeps_its_ring);
  RUN(asynchronous_io_waits_for_its_events);
  return 0;
}
