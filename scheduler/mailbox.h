// mailbox.h - messages to a worker: an intrusive stack, many posters, one reader.
// A message's memory must stay valid until it ran; the poster may post it again only after that.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

namespace weft {

struct Message {
  Message* next = nullptr;
  // Runs on the worker's kernel thread, between fibers.
  void (*run)(Message& self) = nullptr;
};

class Mailbox {
 public:
  // May run in parallel with itself and with take_all().
  void post(Message& message) {
    Message* head = head_.load(std::memory_order_relaxed);
    do {
      message.next = head;
      // Release: the message's fields are visible to take_all().
    } while (!head_.compare_exchange_weak(head, &message, std::memory_order_release,
                                          std::memory_order_relaxed));
  }
  // Only the owner. Messages come newest first; their order carries no meaning.
  Message* take_all() {
    // Relaxed: an empty box is the usual case, and the poster wakes us after it posted.
    if (head_.load(std::memory_order_relaxed) == nullptr) return nullptr;
    // Acquire: pairs with post().
    return head_.exchange(nullptr, std::memory_order_acquire);
  }
  bool empty() const { return head_.load(std::memory_order_acquire) == nullptr; }

 private:
  std::atomic<Message*> head_{nullptr};
};

}  // namespace weft
