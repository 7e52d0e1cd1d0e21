// sim_files.h - the simulated descriptors: pipes, stream sockets, listeners, files.
// An operation is attempted; it either has its whole effect now and a result, or it waits on the
// objects that could let it go on. Nothing here knows of time or of netpollers.
// O_NONBLOCK is not looked at, as in io_uring; MSG_DONTWAIT and RWF_NOWAIT are.
// Not modelled: datagrams, control messages, urgent data, resets by unread data at close.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "platform/netpoller.h"
#include "platform/sim/sim_random.h"

namespace weft::platform {

// What may go wrong, and how often. The default is a well-behaved system.
struct SimOptions {
  uint64_t seed = 1;
  // Of an input or output that moves fewer bytes than it could, at least one.
  double short_probability = 0;
  // Of a completion that arrives later than its effect, by up to delay_max_ns.
  double delay_probability = 0;
  // Of a cancel that takes hold later than it is asked for, so that the operation may win.
  double cancel_delay_probability = 0;
  int64_t delay_max_ns = 1'000'000;
  // Whether completions that arrive together come in random order.
  bool shuffle = false;
  // Of each pipe and each direction of a stream.
  size_t buffer_bytes = 65536;
  // The same for everything: supports() is false and the result -ENOSYS.
  bool has_futex_wait = true;
};

// Something that operations wait on: which tasks to attempt again when it changes, oldest first.
struct SimSource {
  std::set<uint64_t> waiters;
};

struct SimBuffer {
  std::deque<char> bytes;
  size_t capacity = 0;
  int readers = 0;
  int writers = 0;
  SimSource source;
};

class SimFiles;

// An open file description; descriptors and running operations share it, as in the kernel.
struct SimFile {
  enum class Kind { pipe_reader, pipe_writer, socket, stream, listener, file };

  ~SimFile();
  void shut_write();

  Kind kind = Kind::file;
  SimFiles* files = nullptr;
  std::shared_ptr<SimBuffer> in;
  std::shared_ptr<SimBuffer> out;
  bool write_shut = false;
  std::string data;     // a file's contents
  size_t position = 0;  // a file's
  uint16_t port = 0;    // a listener's own, a stream's peer's
  std::deque<std::shared_ptr<SimFile>> backlog;
  size_t backlog_max = 0;
  SimSource source;  // a listener's backlog
};

// One operation under way.
struct SimTask {
  uint64_t id = 0;
  Completion* completion = nullptr;
  class SimNetpoller* owner = nullptr;
  std::shared_ptr<SimFile> file;
  std::shared_ptr<SimFile> second;
  bool started = false;
  bool woken = false;    // futex_wait: by wake_futex()
  int64_t progress = 0;  // MSG_WAITALL: bytes so far
};

class SimFiles {
 public:
  SimFiles(SimRandom& random, const SimOptions& options) : random_(random), options_(options) {}

  // first = the reading end.
  std::pair<int, int> make_pipe();
  std::pair<int, int> make_stream_pair();
  int make_socket();
  // port: 0 takes a free one; on return the one taken.
  int make_listener(uint16_t& port, size_t backlog_max = 128);
  int make_file(std::string contents);
  int duplicate(int fd);
  // 0 or -EBADF. Operations under way keep what they use, as in the kernel.
  int close(int fd);
  int shutdown_write(int fd);
  std::string file_contents(int fd) const;
  size_t open_count() const { return table_.size(); }

  // Does the operation, or returns nothing and has the task attempted again after a change.
  std::optional<int64_t> attempt(SimTask& task);
  // Tasks to attempt again, in the order of the changes; emptied by the call.
  std::vector<uint64_t> take_retries() { return std::exchange(retries_, {}); }
  bool has_retries() const { return !retries_.empty(); }
  void changed(SimSource& source);

 private:
  using Result = std::optional<int64_t>;
  using Spans = std::vector<iovec>;

  int install(std::shared_ptr<SimFile> file);
  std::shared_ptr<SimFile> find(int fd) const;
  std::pair<std::shared_ptr<SimFile>, std::shared_ptr<SimFile>> connect_streams();
  // Not ready: waits on the sources, or fails when the caller does not want to wait.
  Result wait(SimTask& task, bool may_wait, std::initializer_list<SimSource*> sources);
  size_t shorten(size_t length);

  int64_t start(SimTask& task);
  Result input(SimTask& task, const Spans& spans, uint32_t flags);
  Result output(SimTask& task, const Spans& spans, uint32_t flags);
  int64_t file_input(SimFile& file, const Spans& spans, uint64_t offset);
  int64_t file_output(SimFile& file, const Spans& spans, uint64_t offset);
  Result accept(SimTask& task);
  Result connect(SimTask& task);
  Result poll(SimTask& task);
  Result move(SimTask& task, bool keep);
  Result futex_wait(SimTask& task);

  SimRandom& random_;
  const SimOptions& options_;
  // Before the tables: files that end with them report to it.
  std::vector<uint64_t> retries_;
  std::map<int, std::shared_ptr<SimFile>> table_;
  std::map<uint16_t, std::weak_ptr<SimFile>> listeners_;
  uint16_t next_port_ = 1024;
};

}  // namespace weft::platform
