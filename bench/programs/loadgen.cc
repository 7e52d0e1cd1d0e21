// loadgen - a closed-loop TCP echo load generator on one io_uring, cheap enough to load any server.
// Usage: loadgen -p PORT [-c CONNS] [-s BYTES] [-d SECONDS] [-w WARMUP_SECONDS]
//                [-m echo|idle|churn] [-P SERVER_PID]
//   echo   every connection keeps one message outstanding
//   idle   opens the connections, one message each, then reports the server's memory; waits for
//          the replies for -d seconds at most
//   churn  CONNS chains of connect, one message, close; a request is one whole round
// Guarantee: every byte that comes back is compared (each message is its own slice of a random
// pattern, so a reply to someone else is noticed); a message that was sent is waited for at the
// end: a lost one is an error. Bounded in time whatever the server does. Exit 1 on any error.
// Prints one line: reqs=N errors=N rps=F p50_us=F p99_us=F p999_us=F max_us=F client_us_per_req=F,
// and with -P also server_us_per_req=F server_cores=F other_cores=F (busy with neither of the two)
// rss_kb=N threads=N. Read next: loadgen_options.h, scripts/bench.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "bench/programs/histogram.h"
#include "bench/programs/loadgen_options.h"
#include "bench/programs/process_stats.h"
#include "bench/programs/uring.h"

namespace {

using bench::Mode;
using bench::Options;

enum class Op : uint64_t { connect, send, receive };

constexpr unsigned kSqEntries = 8192;
constexpr unsigned kCqEntries = 65536;
constexpr size_t kPatternBytes = 8192;
constexpr unsigned kBufferBytesMax = 2048;
// Sources 127.0.0.2 .. 127.0.0.65: ports never run out, whatever waits in TIME_WAIT.
constexpr uint32_t kSourceCount = 64;
constexpr uint64_t kTickNs = 50'000'000;
// How long the last replies may take, and a connect; far above any healthy tail.
constexpr uint64_t kDrainNs = 5'000'000'000;
constexpr int kConnectSeconds = 10;
constexpr uint64_t kReportedErrorsMax = 3;

struct Connection {
  int fd = -1;
  bool waiting = false;  // a message is on its way
  bool failed = false;   // given up; counted as an error once
  size_t received = 0;
  uint64_t started_ns = 0;
  uint64_t message = 0;  // serial number; chooses the slice
};

class LoadGenerator {
 public:
  explicit LoadGenerator(const Options& options)
      : options_(options),
        server_(bench::loopback_address(options.port)),
        buffers_(ring_, buffer_count(options), buffer_bytes(options)),
        connections_(options.connections),
        pattern_(kPatternBytes + options.message_bytes) {
    std::mt19937 random(1);
    for (char& byte : pattern_) byte = static_cast<char>(random());
  }

  int run() {
    if (options_.mode == Mode::idle) return run_idle();
    const auto warmup_ns = static_cast<uint64_t>(options_.warmup_seconds * 1e9);
    const auto measured_ns = static_cast<uint64_t>(options_.seconds * 1e9);
    start_all();
    run_until(bench::now_ns() + warmup_ns, false);
    measuring_ = true;
    const auto before = bench::Snapshot::take(options_.server);
    run_until(before.wall_ns + measured_ns, false);
    measuring_ = false;
    const auto after = bench::Snapshot::take(options_.server);
    drain(kDrainNs);
    report(before, after);
    return errors_ == 0 && latency_.count() > 0 ? 0 : 1;
  }

  // Resets what is open, so that runs leave no TIME_WAIT behind.
  void reset_all() {
    const linger reset{1, 0};
    for (const Connection& connection : connections_) {
      if (connection.fd < 0) continue;
      setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      close(connection.fd);
    }
  }

 private:
  // Twice what can be outstanding, and no more: the pool is used round robin and should stay
  // cached.
  static unsigned buffer_count(const Options& options) {
    unsigned count = 256;
    while (count < 2 * options.connections && count < 32768) count *= 2;
    return count;
  }
  static unsigned buffer_bytes(const Options& options) {
    const size_t line = 64;
    const size_t rounded = (options.message_bytes + line - 1) / line * line;
    return static_cast<unsigned>(std::min<size_t>(rounded, kBufferBytesMax));
  }
  static uint64_t tag(Op op, size_t index) { return static_cast<uint64_t>(op) << 32 | index; }

  const char* slice(size_t index, const Connection& connection) const {
    return pattern_.data() + (index * 769 + connection.message * 97) % kPatternBytes;
  }

  int open_socket() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) bench::die("socket", errno);
    bench::set_nodelay(fd);
    const int one = 1;
    // The port is chosen at connect, from all that are free for this pair of addresses.
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    const timeval limit{kConnectSeconds, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const sockaddr_in source = bench::loopback_address(0, 2 + opened_++ % kSourceCount);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0) {
      bench::die("bind", errno);
    }
    return fd;
  }

  void start_all() {
    if (options_.mode == Mode::churn) {
      for (size_t index = 0; index < connections_.size(); ++index) start_round(index);
      return;
    }
    // All connections first: a server that is still accepting would be measured otherwise.
    for (Connection& connection : connections_) {
      connection.fd = open_socket();
      const auto* target = reinterpret_cast<const sockaddr*>(&server_);
      if (connect(connection.fd, target, sizeof server_) != 0) bench::die("connect", errno);
    }
    for (size_t index = 0; index < connections_.size(); ++index) {
      arm_receive(index);
      send(index, bench::now_ns());
    }
  }

  // Churn: a fresh connection, whose connect is part of the time.
  void start_round(size_t index) {
    Connection& connection = connections_[index];
    connection.fd = open_socket();
    start_waiting(connection, bench::now_ns());
    ring_.next_sqe(tag(Op::connect, index), [&](io_uring_sqe* sqe) {
      const auto* target = reinterpret_cast<const sockaddr*>(&server_);
      io_uring_prep_connect(sqe, connection.fd, target, sizeof server_);
    });
  }

  void start_waiting(Connection& connection, uint64_t now) {
    connection.waiting = true;
    connection.received = 0;
    connection.started_ns = now;
    ++connection.message;
    ++waiting_count_;
  }

  void send(size_t index, uint64_t now) {
    start_waiting(connections_[index], now);
    submit_send(index);
  }

  void submit_send(size_t index) {
    const Connection& connection = connections_[index];
    ring_.next_sqe(tag(Op::send, index), [&](io_uring_sqe* sqe) {
      io_uring_prep_send(sqe, connection.fd, slice(index, connection), options_.message_bytes,
                         MSG_WAITALL | MSG_NOSIGNAL);
      // Its success is told by the reply.
      sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    });
  }

  // Churn receives one at a time: nothing may still be armed when the fd is closed.
  void arm_receive(size_t index) {
    ring_.next_sqe(tag(Op::receive, index), [&](io_uring_sqe* sqe) {
      const int fd = connections_[index].fd;
      if (options_.mode == Mode::churn) {
        io_uring_prep_recv(sqe, fd, nullptr, buffers_.buffer_bytes(), 0);
      } else {
        io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
      }
      // A reply never is there already when the message has just been queued.
      sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
      sqe->flags |= IOSQE_BUFFER_SELECT;
      sqe->buf_group = bench::BufferRing::kGroup;
    });
  }

  // Returns when the deadline passed, when every connection failed or, if asked, when no reply is
  // outstanding.
  void run_until(uint64_t deadline_ns, bool until_quiet) {
    while (failed_count_ < connections_.size()) {
      now_ns_ = bench::now_ns();
      if (now_ns_ >= deadline_ns || (until_quiet && waiting_count_ == 0)) return;
      __kernel_timespec tick{0, static_cast<long long>(std::min(kTickNs, deadline_ns - now_ns_))};
      io_uring_cqe* first = nullptr;
      const int count = io_uring_submit_and_wait_timeout(ring_.get(), &first, 1, &tick, nullptr);
      if (count < 0 && count != -ETIME && count != -EINTR && count != -EBUSY) {
        bench::die("io_uring_enter", -count);
      }
      now_ns_ = bench::now_ns();
      ring_.reap([this](const io_uring_cqe& cqe) { complete(cqe); });
      buffers_.publish();
    }
  }

  // Waits for the replies that are outstanding; those that do not come are errors.
  void drain(uint64_t limit_ns) {
    draining_ = true;
    run_until(bench::now_ns() + limit_ns, true);
    if (waiting_count_ == 0) return;
    std::fprintf(stderr, "loadgen: %zu replies never came\n", waiting_count_);
    errors_ += waiting_count_;
  }

  void complete(const io_uring_cqe& cqe) {
    const size_t index = static_cast<uint32_t>(cqe.user_data);
    switch (static_cast<Op>(cqe.user_data >> 32)) {
      case Op::connect:
        if (cqe.res < 0) {
          fail(index, "connect", reason(cqe.res));
          break;
        }
        submit_send(index);
        arm_receive(index);
        break;
      case Op::send:
        // Only failures are reported; a short send is one.
        fail(index, "send", cqe.res < 0 ? reason(cqe.res) : "cut short");
        break;
      case Op::receive:
        complete_receive(index, cqe);
        break;
    }
  }

  void complete_receive(size_t index, const io_uring_cqe& cqe) {
    Connection& connection = connections_[index];
    if (cqe.res <= 0) {
      if (cqe.res == -ENOBUFS) {
        arm_receive(index);
      } else {
        fail(index, "receive", reason(cqe.res));
      }
      return;
    }
    const uint16_t id = bench::BufferRing::id_of(cqe);
    const auto length = static_cast<size_t>(cqe.res);
    const bool expected =
        connection.waiting && connection.received + length <= options_.message_bytes &&
        std::memcmp(buffers_.data(id), slice(index, connection) + connection.received, length) == 0;
    buffers_.give(id);
    if (!expected) {
      fail(index, "receive", "these bytes are not the message");
      return;
    }
    connection.received += length;
    const bool finished = connection.received == options_.message_bytes;
    if (finished) finish_round(index);
    // Churn: a finished connection is closed already, and its successor is armed once connected.
    const bool armed = (cqe.flags & IORING_CQE_F_MORE) != 0;
    if (!armed && !(finished && options_.mode == Mode::churn)) arm_receive(index);
  }

  void finish_round(size_t index) {
    Connection& connection = connections_[index];
    connection.waiting = false;
    --waiting_count_;
    if (measuring_) latency_.add(now_ns_ - connection.started_ns);
    if (options_.mode == Mode::churn) {
      close(connection.fd);
      connection.fd = -1;
      if (!draining_) start_round(index);
    } else if (!draining_) {
      send(index, now_ns_);
    }
  }

  static const char* reason(int result) {
    return result < 0 ? std::strerror(-result) : "the server closed the connection";
  }

  void fail(size_t index, const char* what, const char* why) {
    Connection& connection = connections_[index];
    if (connection.failed) return;
    connection.failed = true;
    ++failed_count_;
    ++errors_;
    if (connection.waiting) {
      connection.waiting = false;
      --waiting_count_;
    }
    // Ends whatever is armed on it.
    shutdown(connection.fd, SHUT_RDWR);
    if (errors_ > kReportedErrorsMax) return;
    std::fprintf(stderr, "loadgen: connection %zu: %s: %s\n", index, what, why);
  }

  int run_idle() {
    const auto before = settled_memory();
    const uint64_t started_ns = bench::now_ns();
    draining_ = true;
    start_all();
    drain(static_cast<uint64_t>(options_.seconds * 1e9));
    const double seconds = static_cast<double>(bench::now_ns() - started_ns) * 1e-9;
    report_idle(before, settled_memory(), seconds);
    return errors_ == 0 ? 0 : 1;
  }

  // The server's memory once it has not changed for three readings (or after 5 seconds).
  bench::Memory settled_memory() const {
    bench::Memory last = bench::Memory::of(options_.server);
    int same = 0;
    for (int reading = 0; reading < 50 && same < 3; ++reading) {
      usleep(100'000);
      const auto next = bench::Memory::of(options_.server);
      same = next.is_settled_since(last) ? same + 1 : 0;
      last = next;
    }
    return last;
  }

  void report_idle(const bench::Memory& before, const bench::Memory& after, double seconds) const {
    const auto per_connection = [this](int64_t kib_before, int64_t kib_after) {
      return static_cast<double>(kib_after - kib_before) * 1024 /
             static_cast<double>(options_.connections);
    };
    std::printf(
        "conns=%zu errors=%llu connect_s=%.2f rss_kb=%lld threads=%lld rss_b_per_conn=%.0f "
        "kernel_stack_b_per_conn=%.0f page_table_b_per_conn=%.0f slab_b_per_conn=%.0f\n",
        options_.connections, static_cast<unsigned long long>(errors_), seconds,
        static_cast<long long>(after.rss_kib), static_cast<long long>(after.threads),
        per_connection(before.rss_kib, after.rss_kib),
        per_connection(before.kernel_stack_kib, after.kernel_stack_kib),
        per_connection(before.page_table_kib, after.page_table_kib),
        per_connection(before.slab_kib, after.slab_kib));
  }

  void report(const bench::Snapshot& before, const bench::Snapshot& after) const {
    const auto requests = static_cast<double>(latency_.count());
    const auto wall_ns = static_cast<double>(after.wall_ns - before.wall_ns);
    const auto own_ns = static_cast<double>(after.own_cpu_ns - before.own_cpu_ns);
    const double per_request = requests > 0 ? 1e-3 / requests : 0;
    const auto us = [this](double quantile) {
      return static_cast<double>(latency_.quantile(quantile)) * 1e-3;
    };
    std::printf(
        "reqs=%llu errors=%llu rps=%.0f p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f "
        "client_us_per_req=%.3f",
        static_cast<unsigned long long>(latency_.count()), static_cast<unsigned long long>(errors_),
        requests / wall_ns * 1e9, us(0.5), us(0.99), us(0.999),
        static_cast<double>(latency_.max()) * 1e-3, own_ns * per_request);
    if (options_.server != 0) {
      const auto server_ns = static_cast<double>(after.server_cpu_ns - before.server_cpu_ns);
      const auto busy_ns = static_cast<double>(after.busy_ns - before.busy_ns);
      // Readings of different clocks: a little below zero means nothing.
      const double other_cores = std::max(0.0, (busy_ns - server_ns - own_ns) / wall_ns);
      const auto memory = bench::Memory::of(options_.server);
      std::printf(
          " server_us_per_req=%.3f server_cores=%.2f other_cores=%.2f rss_kb=%lld "
          "threads=%lld",
          server_ns * per_request, server_ns / wall_ns, other_cores,
          static_cast<long long>(memory.rss_kib), static_cast<long long>(memory.threads));
    }
    std::printf("\n");
  }

  const Options options_;
  const sockaddr_in server_;
  bench::Ring ring_{kSqEntries, kCqEntries};
  bench::BufferRing buffers_;
  std::vector<Connection> connections_;
  std::vector<char> pattern_;
  bench::Histogram latency_;
  uint64_t now_ns_ = 0;
  uint64_t errors_ = 0;
  uint32_t opened_ = 0;
  size_t waiting_count_ = 0;
  size_t failed_count_ = 0;
  bool measuring_ = false;
  bool draining_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options = bench::parse_options(argc, argv);
  signal(SIGPIPE, SIG_IGN);
  bench::raise_fd_limit();
  LoadGenerator generator(options);
  const int status = generator.run();
  generator.reset_all();
  return status;
}
