// pingpong - what does it cost two threads to hand a turn over and back by mutex and condition
// variables? Every hand-over makes the other thread wait, so no lock is ever won by luck.
// Prints ns per round trip (two hand-overs).
// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/micro.h"

namespace {

// `turn` is guarded by the mutex: 0 main's, 1 the peer's, -1 the end.
struct Table {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t main_turn = PTHREAD_COND_INITIALIZER;
  pthread_cond_t peer_turn = PTHREAD_COND_INITIALIZER;
  int turn = 0;
  uint64_t peer_count = 0;
};

void* peer(void* argument) {
  Table& table = *static_cast<Table*>(argument);
  pthread_mutex_lock(&table.mutex);
  while (table.turn >= 0) {
    if (table.turn == 1) {
      ++table.peer_count;
      table.turn = 0;
      pthread_cond_signal(&table.main_turn);
    }
    pthread_cond_wait(&table.peer_turn, &table.mutex);
  }
  pthread_mutex_unlock(&table.mutex);
  return nullptr;
}

uint64_t play(Table& table, uint64_t round_trips) {
  pthread_mutex_lock(&table.mutex);
  const uint64_t before = table.peer_count;
  for (uint64_t i = 0; i < round_trips; ++i) {
    table.turn = 1;
    pthread_cond_signal(&table.peer_turn);
    while (table.turn != 0) pthread_cond_wait(&table.main_turn, &table.mutex);
  }
  micro::expect(table.peer_count - before == round_trips, "the peer had every second turn");
  pthread_mutex_unlock(&table.mutex);
  return round_trips;
}

}  // namespace

int main(int argc, char** argv) {
  const micro::Plan plan = micro::parse_plan(argc, argv, 20000);
  Table table;
  const pthread_t thread = micro::start_thread(peer, &table);
  micro::measure("pingpong", plan, [&](uint64_t count) { return play(table, count); });
  pthread_mutex_lock(&table.mutex);
  table.turn = -1;
  pthread_cond_signal(&table.peer_turn);
  pthread_mutex_unlock(&table.mutex);
  micro::join_thread(thread);
}
