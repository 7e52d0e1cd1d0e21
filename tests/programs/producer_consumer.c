// producer_consumer.c - several producers and consumers share a small ring with a mutex and
// condvars. Checks pthread_cond_wait (POSIX: "atomically release mutex and cause the calling thread
// to block") and pthread_cond_signal: no item is lost, doubled or seen out of its producer's order.
// SPDX-License-Identifier: Apache-2.0
#include <stdbool.h>

#include "tests/programs/expect.h"

enum { kProducers = 5, kConsumers = 7, kItems = 6000, kSlots = 8 };

struct Item {
  int producer;
  int value;
};

struct Tally {
  long long sum;
  int count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER;
static struct Item ring[kSlots];
static int ring_head, ring_count;
static bool closed;

static void* produce(void* argument) {
  for (int value = 1; value <= kItems; value++) {
    EXPECT_OK(pthread_mutex_lock(&lock));
    while (ring_count == kSlots) EXPECT_OK(pthread_cond_wait(&not_full, &lock));
    ring[(ring_head + ring_count++) % kSlots] = (struct Item){(int)(intptr_t)argument, value};
    EXPECT_OK(pthread_cond_signal(&not_empty));
    EXPECT_OK(pthread_mutex_unlock(&lock));
  }
  return NULL;
}

static void* consume(void* argument) {
  struct Tally* tally = argument;
  int last[kProducers] = {0};
  for (;;) {
    EXPECT_OK(pthread_mutex_lock(&lock));
    while (ring_count == 0 && !closed) EXPECT_OK(pthread_cond_wait(&not_empty, &lock));
    if (ring_count == 0) break;
    const struct Item item = ring[ring_head];
    ring_head = (ring_head + 1) % kSlots;
    ring_count--;
    EXPECT_OK(pthread_cond_signal(&not_full));
    EXPECT_OK(pthread_mutex_unlock(&lock));
    EXPECT(item.value > last[item.producer]);
    last[item.producer] = item.value;
    tally->sum += item.value;
    tally->count++;
  }
  EXPECT_OK(pthread_mutex_unlock(&lock));
  return NULL;
}

int main(void) {
  pthread_t producers[kProducers], consumers[kConsumers];
  struct Tally tallies[kConsumers] = {{0, 0}};
  for (int i = 0; i < kConsumers; i++) consumers[i] = start_thread(consume, &tallies[i]);
  for (int i = 0; i < kProducers; i++) producers[i] = start_thread(produce, (void*)(intptr_t)i);
  for (int i = 0; i < kProducers; i++) join_thread(producers[i]);
  EXPECT_OK(pthread_mutex_lock(&lock));
  closed = true;
  EXPECT_OK(pthread_cond_broadcast(&not_empty));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  long long sum = 0, count = 0;
  for (int i = 0; i < kConsumers; i++) {
    join_thread(consumers[i]);
    sum += tallies[i].sum;
    count += tallies[i].count;
  }
  EXPECT_EQ(count, (long long)kProducers * kItems);
  EXPECT_EQ(sum, (long long)kProducers * kItems * (kItems + 1) / 2);
  say("%lld items, sum %lld\n", count, sum);
  return 0;
}
