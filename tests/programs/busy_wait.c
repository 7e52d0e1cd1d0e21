// busy_wait.c - threads that compute without a call still let the others run.
// Checks sched(7): under SCHED_OTHER no runnable thread starves, even when all processors are taken
// by threads that spin on memory; what the spinners wait for is made by threads that must get a
// turn.
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kSpinners = 6, kYielders = 6, kYields = 200 };

static atomic_int spinning, released, yielders_done;
static atomic_llong turns[kYielders];

static void* spin_until_released(void* argument) {
  // Floating point state lives across the whole wait: it must survive every preemption.
  double sum = 0.0, step = 1.0 + (double)(intptr_t)argument;
  const double expected = step * 1000.0;
  spinning++;
  while (!released) continue;
  for (int i = 0; i < 1000; i++) sum += step;
  EXPECT(sum == expected);
  return NULL;
}

static void* release_spinners(void* argument) {
  (void)argument;
  AWAIT(spinning == kSpinners);
  released = 1;
  return NULL;
}

static void spinners_let_their_releaser_run(void) {
  pthread_t spinners[kSpinners];
  for (int i = 0; i < kSpinners; i++) {
    spinners[i] = start_thread(spin_until_released, (void*)(intptr_t)i);
  }
  join_thread(start_thread(release_spinners, NULL));
  for (int i = 0; i < kSpinners; i++) join_thread(spinners[i]);
}

static void* yield_with_others(void* argument) {
  const int self = (int)(intptr_t)argument;
  // Goes on until everyone has had its turns: a scheduler that starves one never ends this.
  int reported = 0;
  while (yielders_done < kYielders) {
    if (++turns[self] == kYields && !reported) {
      reported = 1;
      yielders_done++;
    }
    EXPECT_SYS(sched_yield());
  }
  return NULL;
}

static void yielding_threads_all_advance(void) {
  pthread_t yielders[kYielders];
  for (int i = 0; i < kYielders; i++) {
    yielders[i] = start_thread(yield_with_others, (void*)(intptr_t)i);
  }
  for (int i = 0; i < kYielders; i++) join_thread(yielders[i]);
  for (int i = 0; i < kYielders; i++) EXPECT(turns[i] >= kYields);
}

static void* sleep_a_little(void* argument) {
  sleep_ms(5);
  *(atomic_int*)argument = 1;
  return NULL;
}

static void a_sleeper_wakes_among_yielders(void) {
  atomic_int awake = 0;
  const pthread_t sleeper = start_thread(sleep_a_little, &awake);
  while (!awake) EXPECT_SYS(sched_yield());
  join_thread(sleeper);
}

int main(void) {
  RUN(spinners_let_their_releaser_run);
  RUN(yielding_threads_all_advance);
  RUN(a_sleeper_wakes_among_yielders);
  return 0;
}
