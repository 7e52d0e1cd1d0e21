// sem - what do POSIX semaphores cost two threads? sem_pingpong: ns per round trip, in which each
// side waits once. sem_uncontended: ns per sem_post and sem_wait that no one waits for; libc does
// that without a call, so it must cost the same anywhere.
// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>

#include "bench/micro/micro.h"

namespace {

struct Pair {
  sem_t ping;
  sem_t pong;
  bool over = false;  // written before a post, read after the wait for it
  uint64_t peer_count = 0;
};

void wait_for(sem_t* semaphore) {
  while (sem_wait(semaphore) != 0) micro::expect(errno == EINTR, "sem_wait() fails by EINTR only");
}

void* peer(void* argument) {
  Pair& pair = *static_cast<Pair*>(argument);
  for (;;) {
    wait_for(&pair.ping);
    if (pair.over) return nullptr;
    ++pair.peer_count;
    sem_post(&pair.pong);
  }
}

uint64_t play(Pair& pair, uint64_t round_trips) {
  const uint64_t before = pair.peer_count;
  for (uint64_t i = 0; i < round_trips; ++i) {
    sem_post(&pair.ping);
    wait_for(&pair.pong);
  }
  micro::expect(pair.peer_count - before == round_trips, "the peer answered every ping");
  return round_trips;
}

uint64_t post_and_wait(sem_t* semaphore, uint64_t operations) {
  for (uint64_t i = 0; i < operations; ++i) {
    sem_post(semaphore);
    wait_for(semaphore);
  }
  return operations;
}

}  // namespace

int main(int argc, char** argv) {
  const micro::Plan plan = micro::parse_plan(argc, argv, 20000);
  Pair pair;
  sem_t alone;
  for (sem_t* semaphore : {&pair.ping, &pair.pong, &alone}) {
    micro::check(sem_init(semaphore, 0, 0) == 0 ? 0 : errno, "sem_init");
  }
  const pthread_t thread = micro::start_thread(peer, &pair);
  micro::measure("sem_pingpong", plan, [&](uint64_t count) { return play(pair, count); });
  micro::measure("sem_uncontended", plan,
                 [&](uint64_t count) { return post_and_wait(&alone, count); });
  pair.over = true;
  sem_post(&pair.ping);
  micro::join_thread(thread);
}
