// sim_files.cc - making and closing simulated descriptors, and who waits on what.
// SPDX-License-Identifier: Apache-2.0
#include "platform/sim/sim_files.h"

#include <cerrno>

namespace weft::platform {

SimFile::~SimFile() {
  if (in != nullptr) {
    in->readers--;
    files->changed(in->source);
  }
  if (out != nullptr) shut_write();
  files->changed(source);
}

void SimFile::shut_write() {
  if (write_shut) return;
  write_shut = true;
  out->writers--;
  files->changed(out->source);
}

void SimFiles::changed(SimSource& source) {
  retries_.insert(retries_.end(), source.waiters.begin(), source.waiters.end());
  source.waiters.clear();
}

int SimFiles::install(std::shared_ptr<SimFile> file) {
  // The lowest free descriptor, as POSIX wants it; 0 to 2 are the program's standard streams.
  int fd = 3;
  while (table_.count(fd) != 0) fd++;
  table_[fd] = std::move(file);
  return fd;
}

std::shared_ptr<SimFile> SimFiles::find(int fd) const {
  const auto found = table_.find(fd);
  return found == table_.end() ? nullptr : found->second;
}

std::pair<int, int> SimFiles::make_pipe() {
  auto buffer = std::make_shared<SimBuffer>();
  buffer->capacity = options_.buffer_bytes;
  buffer->readers = buffer->writers = 1;
  auto reader = std::make_shared<SimFile>();
  reader->kind = SimFile::Kind::pipe_reader;
  reader->files = this;
  reader->in = buffer;
  auto writer = std::make_shared<SimFile>();
  writer->kind = SimFile::Kind::pipe_writer;
  writer->files = this;
  writer->out = buffer;
  const int first = install(std::move(reader));
  return {first, install(std::move(writer))};
}

std::pair<std::shared_ptr<SimFile>, std::shared_ptr<SimFile>> SimFiles::connect_streams() {
  const auto make_buffer = [this] {
    auto buffer = std::make_shared<SimBuffer>();
    buffer->capacity = options_.buffer_bytes;
    buffer->readers = buffer->writers = 1;
    return buffer;
  };
  auto left = std::make_shared<SimFile>();
  auto right = std::make_shared<SimFile>();
  left->kind = right->kind = SimFile::Kind::stream;
  left->files = right->files = this;
  left->in = right->out = make_buffer();
  left->out = right->in = make_buffer();
  return {left, right};
}

std::pair<int, int> SimFiles::make_stream_pair() {
  auto [left, right] = connect_streams();
  const int first = install(std::move(left));
  return {first, install(std::move(right))};
}

int SimFiles::make_socket() {
  auto file = std::make_shared<SimFile>();
  file->kind = SimFile::Kind::socket;
  file->files = this;
  return install(std::move(file));
}

int SimFiles::make_listener(uint16_t& port, size_t backlog_max) {
  while (port == 0) {
    const uint16_t candidate = next_port_++;
    if (listeners_[candidate].expired()) port = candidate;
  }
  auto file = std::make_shared<SimFile>();
  file->kind = SimFile::Kind::listener;
  file->files = this;
  file->port = port;
  file->backlog_max = backlog_max;
  listeners_[port] = file;
  return install(std::move(file));
}

int SimFiles::make_file(std::string contents) {
  auto file = std::make_shared<SimFile>();
  file->files = this;
  file->data = std::move(contents);
  return install(std::move(file));
}

int SimFiles::duplicate(int fd) {
  auto file = find(fd);
  return file == nullptr ? -EBADF : install(std::move(file));
}

int SimFiles::close(int fd) {
  return table_.erase(fd) == 1 ? 0 : -EBADF;
}

int SimFiles::shutdown_write(int fd) {
  const auto file = find(fd);
  if (file == nullptr) return -EBADF;
  if (file->kind != SimFile::Kind::stream) return -ENOTCONN;
  file->shut_write();
  return 0;
}

std::string SimFiles::file_contents(int fd) const {
  const auto file = find(fd);
  return file == nullptr ? std::string() : file->data;
}

std::optional<int64_t> SimFiles::wait(SimTask& task, bool may_wait,
                                      std::initializer_list<SimSource*> sources) {
  if (!may_wait) return -EAGAIN;
  for (SimSource* source : sources) source->waiters.insert(task.id);
  return std::nullopt;
}

size_t SimFiles::shorten(size_t length) {
  if (length < 2 || !random_.chance(options_.short_probability)) return length;
  return 1 + random_.below(length - 1);
}

}  // namespace weft::platform
