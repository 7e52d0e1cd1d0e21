// sim_operations.cc - what each operation does to the simulated descriptors: one switch, attempt().
// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "platform/sim/sim_files.h"

namespace weft::platform {
namespace {

using Kind = SimFile::Kind;

template <typename T>
T* pointer_to(uint64_t address) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

// The buffers that an operation names, by whichever of the three ways.
std::vector<iovec> spans_of(const Op& op) {
  if (op.kind == OpKind::read_vector || op.kind == OpKind::write_vector) {
    const auto* parts = pointer_to<const iovec>(op.address);
    return {parts, parts + op.length};
  }
  if (op.kind == OpKind::receive_message || op.kind == OpKind::send_message) {
    const auto* message = pointer_to<const msghdr>(op.address);
    return {message->msg_iov, message->msg_iov + message->msg_iovlen};
  }
  return {iovec{pointer_to<void>(op.address), op.length}};
}

size_t total(const std::vector<iovec>& spans) {
  size_t bytes = 0;
  for (const iovec& span : spans) bytes += span.iov_len;
  return bytes;
}

// The address of byte `index` of the buffers taken together.
char* byte_at(const std::vector<iovec>& spans, size_t index) {
  for (const iovec& span : spans) {
    if (index < span.iov_len) return static_cast<char*>(span.iov_base) + index;
    index -= span.iov_len;
  }
  return nullptr;
}

// What RWF_* means in the language of receive and send.
uint32_t message_flags(uint32_t rwf_flags) {
  return (rwf_flags & RWF_NOWAIT) != 0 ? uint32_t{MSG_DONTWAIT} : 0;
}

bool is_socket(const SimFile& file) {
  return file.kind == Kind::socket || file.kind == Kind::stream || file.kind == Kind::listener;
}

bool is_pipe(const SimFile& file) {
  return file.kind == Kind::pipe_reader || file.kind == Kind::pipe_writer;
}

unsigned ready_events(const SimFile& file) {
  unsigned events = 0;
  if (file.kind == Kind::file) return POLLIN | POLLOUT;
  if (file.kind == Kind::socket) return POLLOUT | POLLHUP;  // tcp(7): before connect()
  if (file.kind == Kind::listener) return file.backlog.empty() ? 0 : POLLIN;
  if (file.in != nullptr) {
    const bool ended = file.in->writers == 0;
    if (!file.in->bytes.empty()) events |= POLLIN;
    if (ended && file.kind == Kind::stream) events |= POLLIN | POLLRDHUP;
    if (ended && (file.kind == Kind::pipe_reader || file.write_shut || file.out->readers == 0)) {
      events |= POLLHUP;
    }
  }
  if (file.out != nullptr) {
    if (file.out->bytes.size() < file.out->capacity) events |= POLLOUT;
    if (file.out->readers == 0 && file.kind == Kind::pipe_writer) events |= POLLERR;
  }
  return events;
}

}  // namespace

std::optional<int64_t> SimFiles::attempt(SimTask& task) {
  const Op& op = task.completion->op;
  if (!task.started) {
    const int64_t refused = start(task);
    if (refused != 0) return refused;
  }
  switch (op.kind) {
    case OpKind::read:
      return input(task, spans_of(op), 0);
    case OpKind::read_vector:
      return input(task, spans_of(op), message_flags(op.op_flags));
    case OpKind::write:
      return output(task, spans_of(op), 0);
    case OpKind::write_vector:
      return output(task, spans_of(op), message_flags(op.op_flags));
    case OpKind::receive:
    case OpKind::receive_message:
      if (!is_socket(*task.file)) return -ENOTSOCK;
      return input(task, spans_of(op), op.op_flags);
    case OpKind::send:
    case OpKind::send_message:
      if (!is_socket(*task.file)) return -ENOTSOCK;
      return output(task, spans_of(op), op.op_flags);
    case OpKind::accept:
      return accept(task);
    case OpKind::connect:
      return connect(task);
    case OpKind::poll:
      return poll(task);
    case OpKind::splice:
      return move(task, false);
    case OpKind::tee:
      return move(task, true);
    case OpKind::sync:
      return task.file->kind == Kind::file ? 0 : -EINVAL;
    case OpKind::futex_wait:
      return options_.has_futex_wait ? futex_wait(task) : -ENOSYS;
    case OpKind::wait_id:  // there are no simulated processes
    case OpKind::count:
      return -ENOSYS;
  }
  return -ENOSYS;
}

int64_t SimFiles::start(SimTask& task) {
  const Op& op = task.completion->op;
  task.started = true;
  if (op.kind == OpKind::futex_wait || op.kind == OpKind::wait_id) return 0;
  task.file = find(op.fd);
  if (task.file == nullptr) return -EBADF;
  if (op.kind != OpKind::splice && op.kind != OpKind::tee) return 0;
  task.second = find(op.second_fd);
  return task.second == nullptr ? -EBADF : 0;
}

std::optional<int64_t> SimFiles::input(SimTask& task, const Spans& spans, uint32_t flags) {
  SimFile& file = *task.file;
  if (file.kind == Kind::file) return file_input(file, spans, task.completion->op.offset);
  if (file.kind == Kind::pipe_writer) return -EBADF;
  if (file.in == nullptr) return -ENOTCONN;
  const size_t wanted = total(spans) - static_cast<size_t>(task.progress);
  if (wanted == 0) return task.progress;
  SimBuffer& buffer = *file.in;
  const bool may_wait = (flags & MSG_DONTWAIT) == 0;
  if (buffer.bytes.empty()) {
    if (buffer.writers == 0) return task.progress;
    return wait(task, may_wait, {&buffer.source});
  }
  const bool whole = (flags & MSG_WAITALL) != 0 && may_wait;
  size_t count = std::min(wanted, buffer.bytes.size());
  if (!whole) count = shorten(count);
  for (size_t i = 0; i < count; i++) {
    *byte_at(spans, static_cast<size_t>(task.progress) + i) = buffer.bytes[i];
  }
  if (task.completion->op.kind == OpKind::receive_message) {
    auto* message = pointer_to<msghdr>(task.completion->op.address);
    message->msg_namelen = 0;
    message->msg_controllen = 0;
    message->msg_flags = 0;
  }
  if ((flags & MSG_PEEK) != 0) return static_cast<int64_t>(count);
  buffer.bytes.erase(buffer.bytes.begin(),
                     buffer.bytes.begin() + static_cast<std::ptrdiff_t>(count));
  changed(buffer.source);
  task.progress += static_cast<int64_t>(count);
  if (whole && count < wanted && buffer.writers != 0) return wait(task, true, {&buffer.source});
  return task.progress;
}

std::optional<int64_t> SimFiles::output(SimTask& task, const Spans& spans, uint32_t flags) {
  SimFile& file = *task.file;
  if (file.kind == Kind::file) return file_output(file, spans, task.completion->op.offset);
  if (file.kind == Kind::pipe_reader) return -EBADF;
  if (file.out == nullptr) return -ENOTCONN;
  SimBuffer& buffer = *file.out;
  if (buffer.readers == 0 || file.write_shut) return -EPIPE;
  if (total(spans) == 0) return 0;
  const size_t room = buffer.capacity - buffer.bytes.size();
  if (room == 0) {
    return wait(task, (flags & MSG_DONTWAIT) == 0, {&buffer.source});
  }
  const size_t count = shorten(std::min(total(spans), room));
  for (size_t i = 0; i < count; i++) buffer.bytes.push_back(*byte_at(spans, i));
  changed(buffer.source);
  return static_cast<int64_t>(count);
}

int64_t SimFiles::file_input(SimFile& file, const Spans& spans, uint64_t offset) {
  const size_t from = offset == kFilePosition ? file.position : static_cast<size_t>(offset);
  if (from >= file.data.size()) return 0;
  const size_t count = shorten(std::min(total(spans), file.data.size() - from));
  for (size_t i = 0; i < count; i++) *byte_at(spans, i) = file.data[from + i];
  if (offset == kFilePosition) file.position += count;
  return static_cast<int64_t>(count);
}

int64_t SimFiles::file_output(SimFile& file, const Spans& spans, uint64_t offset) {
  const size_t from = offset == kFilePosition ? file.position : static_cast<size_t>(offset);
  const size_t count = shorten(total(spans));
  if (count != 0 && file.data.size() < from + count) file.data.resize(from + count);
  for (size_t i = 0; i < count; i++) file.data[from + i] = *byte_at(spans, i);
  if (offset == kFilePosition) file.position += count;
  return static_cast<int64_t>(count);
}

std::optional<int64_t> SimFiles::accept(SimTask& task) {
  SimFile& listener = *task.file;
  if (!is_socket(listener)) return -ENOTSOCK;
  if (listener.kind != Kind::listener) return -EINVAL;
  if (listener.backlog.empty()) return wait(task, true, {&listener.source});
  std::shared_ptr<SimFile> stream = listener.backlog.front();
  listener.backlog.pop_front();
  changed(listener.source);
  const Op& op = task.completion->op;
  if (op.address != 0 && op.second != 0) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(stream->port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* length = pointer_to<socklen_t>(op.second);
    std::memcpy(pointer_to<void>(op.address), &address, std::min<size_t>(*length, sizeof address));
    *length = sizeof address;
  }
  return install(std::move(stream));
}

std::optional<int64_t> SimFiles::connect(SimTask& task) {
  SimFile& file = *task.file;
  if (!is_socket(file)) return -ENOTSOCK;
  if (file.kind != Kind::socket) return -EISCONN;
  const Op& op = task.completion->op;
  if (op.second < sizeof(sockaddr_in)) return -EINVAL;
  sockaddr_in address;
  std::memcpy(&address, pointer_to<const void>(op.address), sizeof address);
  const auto found = listeners_.find(ntohs(address.sin_port));
  const std::shared_ptr<SimFile> listener =
      found == listeners_.end() ? nullptr : found->second.lock();
  if (listener == nullptr) return -ECONNREFUSED;
  if (listener->backlog.size() >= listener->backlog_max) {
    return wait(task, true, {&listener->source});
  }
  auto [near, far] = connect_streams();
  far->port = next_port_++;
  // The near end's buffers move into the socket that the program already holds.
  file.kind = Kind::stream;
  file.port = listener->port;
  file.in = std::move(near->in);
  file.out = std::move(near->out);
  listener->backlog.push_back(std::move(far));
  changed(listener->source);
  return 0;
}

std::optional<int64_t> SimFiles::poll(SimTask& task) {
  SimFile& file = *task.file;
  // poll(2): errors and hang-up are reported without being asked for.
  const unsigned wanted = task.completion->op.op_flags | POLLERR | POLLHUP;
  const unsigned ready = ready_events(file) & wanted;
  if (ready != 0) return ready;
  if (file.in != nullptr) file.in->source.waiters.insert(task.id);
  if (file.out != nullptr) file.out->source.waiters.insert(task.id);
  return wait(task, true, {&file.source});
}

std::optional<int64_t> SimFiles::move(SimTask& task, bool keep) {
  SimFile& target = *task.file;
  SimFile& source = *task.second;
  const Op& op = task.completion->op;
  if (keep ? !(is_pipe(source) && is_pipe(target)) : !(is_pipe(source) || is_pipe(target))) {
    return -EINVAL;
  }
  const bool from_file = source.kind == Kind::file;
  const bool to_file = target.kind == Kind::file;
  if ((!from_file && source.in == nullptr) || (!to_file && target.out == nullptr)) return -EBADF;
  if (!to_file && target.out->readers == 0) return -EPIPE;
  const uint64_t from = from_file && op.second == kFilePosition ? source.position : op.second;
  const size_t available = from_file
                               ? source.data.size() - std::min<size_t>(from, source.data.size())
                               : source.in->bytes.size();
  if (op.length == 0) return 0;
  if (available == 0) {
    if (from_file || source.in->writers == 0) return 0;
    return wait(task, true, {&source.in->source});
  }
  const size_t room = to_file ? SIZE_MAX : target.out->capacity - target.out->bytes.size();
  if (room == 0) return wait(task, true, {&target.out->source});
  const size_t count = shorten(std::min({size_t{op.length}, available, room}));
  std::string bytes;
  for (size_t i = 0; i < count; i++) {
    bytes += from_file ? source.data[from + i] : source.in->bytes[i];
  }
  if (from_file) {
    if (op.second == kFilePosition) source.position += count;
  } else if (!keep) {
    source.in->bytes.erase(source.in->bytes.begin(),
                           source.in->bytes.begin() + static_cast<std::ptrdiff_t>(count));
    changed(source.in->source);
  }
  if (to_file) {
    const uint64_t to = op.offset == kFilePosition ? target.position : op.offset;
    if (target.data.size() < to + count) target.data.resize(to + count);
    target.data.replace(to, count, bytes);
    if (op.offset == kFilePosition) target.position += count;
  } else {
    target.out->bytes.insert(target.out->bytes.end(), bytes.begin(), bytes.end());
    changed(target.out->source);
  }
  return static_cast<int64_t>(count);
}

std::optional<int64_t> SimFiles::futex_wait(SimTask& task) {
  if (task.woken) return 0;
  const auto* word = pointer_to<const uint32_t>(task.completion->op.address);
  // Acquire: as the kernel's look at the word, it comes after the waker's store.
  if (__atomic_load_n(word, __ATOMIC_ACQUIRE) !=
      static_cast<uint32_t>(task.completion->op.second)) {
    return -EAGAIN;
  }
  return std::nullopt;
}

}  // namespace weft::platform
