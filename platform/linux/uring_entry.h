// uring_entry.h - the translation of an Op into an io_uring submission entry: one switch, no other.
// A new operation is one more arm here (-Wswitch-enum names who forgot); what the running kernel
// supports is learned by filling an entry of each kind and asking for its operation code.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/io_uring.h>

#include <cstdint>

#include "platform/netpoller.h"

namespace weft::platform {

// Newer than Debian 12's headers: Linux 6.7.
inline constexpr uint8_t kOpWaitId = 50;
inline constexpr uint8_t kOpFutexWait = 51;

// Every field that the kernel reads or wants to be zero is written here, since
// entries are reused as they are.
inline void fill_entry(io_uring_sqe& entry, const Op& op, uint64_t user_data) {
  entry.flags = 0;
  entry.ioprio = 0;
  entry.fd = op.fd;
  entry.off = 0;
  entry.addr = op.address;
  entry.len = op.length;
  entry.msg_flags = op.op_flags;  // one word, named anew by each operation
  entry.user_data = user_data;
  entry.buf_index = 0;
  entry.personality = 0;
  entry.splice_fd_in = 0;
  entry.addr3 = 0;
  entry.__pad2[0] = 0;
  switch (op.kind) {
    case OpKind::read:
      entry.opcode = IORING_OP_READ;
      entry.off = op.offset;
      entry.msg_flags = 0;
      return;
    case OpKind::write:
      entry.opcode = IORING_OP_WRITE;
      entry.off = op.offset;
      entry.msg_flags = 0;
      return;
    case OpKind::read_vector:
      entry.opcode = IORING_OP_READV;
      entry.off = op.offset;
      return;
    case OpKind::write_vector:
      entry.opcode = IORING_OP_WRITEV;
      entry.off = op.offset;
      return;
    case OpKind::receive:
      entry.opcode = IORING_OP_RECV;
      return;
    case OpKind::send:
      entry.opcode = IORING_OP_SEND;
      return;
    case OpKind::receive_message:
      entry.opcode = IORING_OP_RECVMSG;
      entry.len = 1;
      return;
    case OpKind::send_message:
      entry.opcode = IORING_OP_SENDMSG;
      entry.len = 1;
      return;
    case OpKind::accept:
      entry.opcode = IORING_OP_ACCEPT;
      entry.off = op.second;
      entry.len = 0;
      return;
    case OpKind::connect:
      entry.opcode = IORING_OP_CONNECT;
      entry.off = op.second;
      entry.len = 0;
      entry.msg_flags = 0;
      return;
    case OpKind::poll:
      // One-shot. The 32 bits in native order: the kernel swaps halves on big-endian systems only.
      entry.opcode = IORING_OP_POLL_ADD;
      entry.addr = 0;
      entry.len = 0;
      return;
    case OpKind::splice:
      entry.opcode = IORING_OP_SPLICE;
      entry.off = op.offset;
      entry.splice_off_in = op.second;
      entry.splice_fd_in = op.second_fd;
      return;
    case OpKind::tee:
      entry.opcode = IORING_OP_TEE;
      entry.splice_off_in = 0;
      entry.splice_fd_in = op.second_fd;
      return;
    case OpKind::sync:
      entry.opcode = IORING_OP_FSYNC;
      entry.addr = 0;
      entry.len = 0;
      entry.fsync_flags = op.op_flags & IORING_FSYNC_DATASYNC;
      return;
    case OpKind::futex_wait:
      // io_futex_prep(): flags in fd, the expected value in addr2 (off), the mask in addr3.
      entry.opcode = kOpFutexWait;
      entry.fd = static_cast<int32_t>(op.op_flags);
      entry.off = op.second;
      entry.addr3 = op.offset;
      entry.len = 0;
      entry.msg_flags = 0;
      return;
    case OpKind::wait_id:
      // io_waitid_prep(): which id type in len, options in file_index, the siginfo in addr2 (off).
      entry.opcode = kOpWaitId;
      entry.off = op.address;
      entry.addr = 0;
      entry.file_index = op.op_flags;
      entry.msg_flags = 0;
      return;
    case OpKind::count:
      // Not reached: submit() asks supports() first, which knows no such operation.
      entry.opcode = IORING_OP_NOP;
      return;
  }
}

}  // namespace weft::platform
