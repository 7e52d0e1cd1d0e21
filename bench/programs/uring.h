// uring.h - one io_uring and its ring of provided buffers, as the benchmark programs use them.
// Guarantee: next_sqe() never fails (it submits when the queue is full); a buffer belongs to the
// kernel from give() until a completion names it. One thread uses both. The kernel must be
// Linux 6.0 or newer (multishot receive); DEFER_TASKRUN is used where the kernel has it (6.1).
// Included by uring_echo.cc and loadgen.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>
#include <sys/mman.h>

#include "bench/programs/socket.h"

namespace bench {

class Ring {
 public:
  Ring(unsigned sq_entries, unsigned cq_entries) {
    io_uring_params params{};
    params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    params.cq_entries = cq_entries;
    int error = io_uring_queue_init_params(sq_entries, &ring_, &params);
    if (error == -EINVAL) {
      params = io_uring_params{};
      params.flags = IORING_SETUP_CQSIZE;
      params.cq_entries = cq_entries;
      error = io_uring_queue_init_params(sq_entries, &ring_, &params);
    }
    if (error < 0) die("io_uring_setup", -error);
    // Saves an fd lookup per enter; without it everything works as well.
    io_uring_register_ring_fd(&ring_);
  }
  ~Ring() { io_uring_queue_exit(&ring_); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  io_uring* get() { return &ring_; }

  // The returned entry carries `tag` already; the caller prepares it with prepare(sqe).
  template <class Prepare>
  io_uring_sqe* next_sqe(uint64_t tag, Prepare prepare) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (sqe == nullptr) {
      const int count = io_uring_submit(&ring_);
      if (count < 0 && count != -EINTR && count != -EBUSY) die("io_uring_submit", -count);
      sqe = io_uring_get_sqe(&ring_);
    }
    prepare(sqe);
    // After prepare: liburing's prep functions clear user_data.
    io_uring_sqe_set_data64(sqe, tag);
    return sqe;
  }

  // Hands every completion that is there to `handle`.
  template <class Handle>
  void reap(Handle handle) {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      handle(*cqe);
      ++count;
    }
    io_uring_cq_advance(&ring_, count);
  }

 private:
  io_uring ring_{};
};

// The kernel takes buffers in the order in which they were given.
class BufferRing {
 public:
  static constexpr uint16_t kGroup = 1;

  // count: a power of two, at most 32768.
  BufferRing(Ring& ring, unsigned count, unsigned buffer_bytes)
      : buffer_bytes_(buffer_bytes), mask_(io_uring_buf_ring_mask(count)) {
    entries_ = static_cast<io_uring_buf_ring*>(map_pages(count * sizeof(io_uring_buf)));
    pool_ = static_cast<char*>(map_pages(size_t{count} * buffer_bytes));
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<uint64_t>(entries_);
    registration.ring_entries = count;
    registration.bgid = kGroup;
    const int error = io_uring_register_buf_ring(ring.get(), &registration, 0);
    if (error < 0) die("io_uring buffer ring", -error);
    io_uring_buf_ring_init(entries_);
    for (unsigned id = 0; id < count; ++id) give(static_cast<uint16_t>(id));
    publish();
  }

  static uint16_t id_of(const io_uring_cqe& cqe) {
    return static_cast<uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
  }
  const char* data(uint16_t id) const { return pool_ + size_t{id} * buffer_bytes_; }
  unsigned buffer_bytes() const { return buffer_bytes_; }

  // Gives a buffer back; the kernel sees it at the next publish().
  void give(uint16_t id) {
    char* buffer = pool_ + size_t{id} * buffer_bytes_;
    io_uring_buf_ring_add(entries_, buffer, buffer_bytes_, id, mask_, given_++);
  }
  void publish() {
    io_uring_buf_ring_advance(entries_, given_);
    given_ = 0;
  }

 private:
  // Mapped until the program ends: the kernel may write there as long as the ring lives.
  static void* map_pages(size_t bytes) {
    void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) die("mmap", errno);
    return pages;
  }

  const unsigned buffer_bytes_;
  const int mask_;
  int given_ = 0;
  io_uring_buf_ring* entries_ = nullptr;
  char* pool_ = nullptr;
};

}  // namespace bench
