// openmp_loops.c - OpenMP by libgomp: loops, reductions, critical sections, tasks, nested teams.
// Checks the OpenMP 4.5 worksharing, reduction, critical, ordered, task and barrier constructs;
// libgomp waits with its own futex calls and spins, not with libc's.
// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include "tests/programs/expect.h"

enum { kThreads = 6, kCount = 100000, kRepeats = 50 };

static void loops_cover_every_index_once(void) {
  static unsigned char visits[kCount];
  memset(visits, 0, sizeof visits);
  for (int schedule = 0; schedule < 3; schedule++) {
    omp_set_schedule(schedule == 0   ? omp_sched_static
                     : schedule == 1 ? omp_sched_dynamic
                                     : omp_sched_guided,
                     64);
#pragma omp parallel for schedule(runtime) num_threads(kThreads)
    for (int i = 0; i < kCount; i++) visits[i]++;
  }
  for (int i = 0; i < kCount; i++) EXPECT_EQ(visits[i], 3);
}

static void reductions_are_exact(void) {
  for (int repeat = 0; repeat < kRepeats; repeat++) {
    long long sum = 0;
    int largest = -1;
#pragma omp parallel for reduction(+ : sum) reduction(max : largest) num_threads(kThreads)
    for (int i = 0; i <= 1000; i++) {
      sum += i;
      if ((i * 7919) % 1009 > largest) largest = (i * 7919) % 1009;
    }
    EXPECT_EQ(sum, 1000 * 1001 / 2);
    EXPECT(largest <= 1008 && largest > 900);
  }
}

static void critical_and_atomic_exclude(void) {
  long long plain = 0, counted = 0;
  int team = 0;
#pragma omp parallel num_threads(kThreads)
  {
#pragma omp single
    team = omp_get_num_threads();
    for (int i = 0; i < 2000; i++) {
#pragma omp critical
      plain++;
#pragma omp atomic
      counted++;
    }
#pragma omp barrier
    EXPECT_EQ(plain, 2000LL * team);
  }
  EXPECT_EQ(counted, 2000LL * team);
}

static void ordered_sections_keep_the_order(void) {
  int next = 0;
#pragma omp parallel for ordered schedule(dynamic, 1) num_threads(kThreads)
  for (int i = 0; i < 500; i++) {
#pragma omp ordered
    {
      EXPECT_EQ(next, i);
      next++;
    }
  }
  EXPECT_EQ(next, 500);
}

static long long fibonacci(int n) {
  if (n < 2) return n;
  if (n < 12) return fibonacci(n - 1) + fibonacci(n - 2);
  long long left, right;
#pragma omp task shared(left)
  left = fibonacci(n - 1);
#pragma omp task shared(right)
  right = fibonacci(n - 2);
#pragma omp taskwait
  return left + right;
}

static void tasks_compute_a_tree(void) {
  long long result = 0;
#pragma omp parallel num_threads(kThreads)
#pragma omp single
  result = fibonacci(20);
  EXPECT_EQ(result, 6765);
}

static void nested_teams_and_locks_work(void) {
  int total = 0;
  omp_lock_t lock;
  omp_init_lock(&lock);
  omp_set_max_active_levels(2);
#pragma omp parallel num_threads(3)
#pragma omp parallel num_threads(2)
  {
    omp_set_lock(&lock);
    total++;
    omp_unset_lock(&lock);
  }
  EXPECT_EQ(total, 6);
  omp_destroy_lock(&lock);
}

int main(void) {
  omp_set_dynamic(0);
  RUN_ON_MAIN(loops_cover_every_index_once);
  RUN_ON_MAIN(reductions_are_exact);
  RUN_ON_MAIN(critical_and_atomic_exclude);
  RUN_ON_MAIN(ordered_sections_keep_the_order);
  RUN_ON_MAIN(tasks_compute_a_tree);
  RUN_ON_MAIN(nested_teams_and_locks_work);
  // The same from a thread that is not the first: libgomp makes another pool for it.
  RUN(reductions_are_exact);
  return 0;
}
