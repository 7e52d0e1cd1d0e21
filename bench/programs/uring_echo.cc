// uring_echo - TCP echo on one io_uring and one thread, by hand: the limit for a runtime.
// Usage: uring_echo PORT [oneshot|multishot]
//   oneshot    (default) receive, send, receive, ... each a request of its own: the pattern that a
//              runtime issues for blocking read and write
//   multishot  one armed receive per connection and provided buffers: the cheapest known way, which
//              no program that brings its own buffer can use
// Guarantee: bytes come back in order, also when the peer sends faster than it reads.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <vector>

#include "bench/programs/uring.h"

namespace {

enum class Mode { oneshot, multishot };
enum class Op : uint64_t { accept, receive, send };

constexpr unsigned kSqEntries = 4096;
constexpr unsigned kCqEntries = 32768;
constexpr size_t kOneshotBytes = 4096;
constexpr unsigned kBufferCount = 4096;
// Small on purpose: the pool is used round robin, and 2 MiB of it stay in the cache.
constexpr unsigned kBufferBytes = 512;
constexpr int kSendFlags = MSG_WAITALL | MSG_NOSIGNAL;

// What one fd is at. Multishot: received chunks wait in a list, one send is in flight at a time.
struct Connection {
  std::unique_ptr<char[]> buffer;  // oneshot
  int32_t first_chunk = -1;        // multishot: buffer ids linked by Chunk::next
  int32_t last_chunk = -1;
  bool receiving = false;
  bool closing = false;
};

struct Chunk {
  uint32_t length;
  int32_t next;
};

class EchoServer {
 public:
  EchoServer(int listener, Mode mode) : listener_(listener), mode_(mode) {
    if (mode_ == Mode::multishot) {
      buffers_ = std::make_unique<bench::BufferRing>(ring_, kBufferCount, kBufferBytes);
      chunks_.resize(kBufferCount);
    }
  }

  [[noreturn]] void run() {
    arm_accept();
    for (;;) {
      const int count = io_uring_submit_and_wait(ring_.get(), 1);
      if (count < 0 && count != -EINTR && count != -EBUSY) bench::die("io_uring_enter", -count);
      ring_.reap([this](const io_uring_cqe& cqe) { complete(cqe); });
      if (buffers_ != nullptr) buffers_->publish();
    }
  }

 private:
  static uint64_t tag(Op op, int fd) {
    return static_cast<uint64_t>(op) << 32 | static_cast<uint32_t>(fd);
  }

  void complete(const io_uring_cqe& cqe) {
    const int fd = static_cast<int>(static_cast<uint32_t>(cqe.user_data));
    const bool more = (cqe.flags & IORING_CQE_F_MORE) != 0;
    switch (static_cast<Op>(cqe.user_data >> 32)) {
      case Op::accept:
        if (cqe.res >= 0) adopt(cqe.res);
        if (!more) arm_accept();
        break;
      case Op::receive:
        if (mode_ == Mode::oneshot) {
          received_oneshot(fd, cqe.res);
        } else {
          received_multishot(fd, cqe, more);
        }
        break;
      case Op::send:
        if (mode_ == Mode::oneshot) {
          sent_oneshot(fd, cqe.res);
        } else {
          sent_multishot(fd, cqe.res);
        }
        break;
    }
  }

  void arm_accept() {
    ring_.next_sqe(tag(Op::accept, 0), [this](io_uring_sqe* sqe) {
      io_uring_prep_multishot_accept(sqe, listener_, nullptr, nullptr, SOCK_CLOEXEC);
    });
  }

  void adopt(int fd) {
    bench::set_nodelay(fd);
    const size_t index = static_cast<size_t>(fd);
    if (index >= connections_.size()) connections_.resize(index + 1024);
    Connection& connection = connections_[index];
    connection.closing = false;
    if (mode_ == Mode::oneshot && connection.buffer == nullptr) {
      connection.buffer = std::make_unique<char[]>(kOneshotBytes);
    }
    arm_receive(fd);
  }

  void arm_receive(int fd) {
    Connection& connection = connections_[static_cast<size_t>(fd)];
    connection.receiving = true;
    ring_.next_sqe(tag(Op::receive, fd), [&](io_uring_sqe* sqe) {
      if (mode_ == Mode::oneshot) {
        io_uring_prep_recv(sqe, fd, connection.buffer.get(), kOneshotBytes, 0);
        return;
      }
      io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
      sqe->flags |= IOSQE_BUFFER_SELECT;
      sqe->buf_group = bench::BufferRing::kGroup;
    });
  }

  void send(int fd, const char* data, size_t length) {
    ring_.next_sqe(tag(Op::send, fd), [&](io_uring_sqe* sqe) {
      io_uring_prep_send(sqe, fd, data, length, kSendFlags);
    });
  }

  void received_oneshot(int fd, int result) {
    if (result <= 0) {
      close(fd);
      return;
    }
    send(fd, connections_[static_cast<size_t>(fd)].buffer.get(), static_cast<size_t>(result));
  }

  void sent_oneshot(int fd, int result) {
    if (result < 0) {
      close(fd);
      return;
    }
    arm_receive(fd);
  }

  void received_multishot(int fd, const io_uring_cqe& cqe, bool more) {
    Connection& connection = connections_[static_cast<size_t>(fd)];
    connection.receiving = more;
    if (cqe.res > 0) {
      push_chunk(fd, bench::BufferRing::id_of(cqe), static_cast<uint32_t>(cqe.res));
      if (!more) arm_receive(fd);
      return;
    }
    if (cqe.res == -ENOBUFS) {
      // Counts as receiving, so that the fd stays open until give_back() has armed it again.
      connection.receiving = true;
      starved_.push_back(fd);
      if (pending_chunks_ == 0) arm_starved();
      return;
    }
    connection.closing = true;
    close_if_done(fd);
  }

  void push_chunk(int fd, uint16_t id, uint32_t length) {
    Connection& connection = connections_[static_cast<size_t>(fd)];
    if (connection.closing) {
      give_back(id);
      return;
    }
    chunks_[id] = Chunk{length, -1};
    ++pending_chunks_;
    if (connection.first_chunk < 0) {
      connection.first_chunk = id;
      send(fd, buffers_->data(id), length);
    } else {
      chunks_[static_cast<size_t>(connection.last_chunk)].next = id;
    }
    connection.last_chunk = id;
  }

  // One send at a time: two in flight on one socket could overtake each other when it is full.
  void sent_multishot(int fd, int result) {
    Connection& connection = connections_[static_cast<size_t>(fd)];
    pop_chunk(connection);
    if (result < 0) {
      while (connection.first_chunk >= 0) pop_chunk(connection);
      connection.closing = true;
      // Ends the armed receive, whose last completion closes the fd.
      shutdown(fd, SHUT_RDWR);
    }
    if (connection.first_chunk >= 0) {
      const auto id = static_cast<uint16_t>(connection.first_chunk);
      send(fd, buffers_->data(id), chunks_[id].length);
    } else if (connection.closing) {
      close_if_done(fd);
    }
  }

  void pop_chunk(Connection& connection) {
    const auto id = static_cast<uint16_t>(connection.first_chunk);
    connection.first_chunk = chunks_[id].next;
    --pending_chunks_;
    give_back(id);
  }

  void give_back(uint16_t id) {
    buffers_->give(id);
    arm_starved();
  }

  // All of them: one that has nothing to receive would not pass the turn on.
  void arm_starved() {
    for (const int fd : starved_) arm_receive(fd);
    starved_.clear();
  }

  void close_if_done(int fd) {
    const Connection& connection = connections_[static_cast<size_t>(fd)];
    if (!connection.receiving && connection.first_chunk < 0) close(fd);
  }

  const int listener_;
  const Mode mode_;
  bench::Ring ring_{kSqEntries, kCqEntries};
  std::unique_ptr<bench::BufferRing> buffers_;
  std::vector<Connection> connections_;  // by fd
  std::vector<Chunk> chunks_;            // by buffer id
  size_t pending_chunks_ = 0;
  std::vector<int> starved_;  // fds whose receive found no buffer
};

}  // namespace

int main(int argc, char** argv) {
  const char* usage = "uring_echo PORT [oneshot|multishot]";
  const std::string mode = argc > 2 ? argv[2] : "oneshot";
  const bool known = argc <= 3 && (mode == "oneshot" || mode == "multishot");
  const uint16_t port = bench::parse_port(known && argc > 1 ? argv[1] : nullptr, usage);
  const int listener = bench::listen_on(port);
  EchoServer(listener, mode == "oneshot" ? Mode::oneshot : Mode::multishot).run();
}
