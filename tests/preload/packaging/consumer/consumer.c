// consumer.c - says on what its threads run: "version V, fibers N of M, kernel threads K".
// All M threads are alive at once, each holds at a barrier. A fiber's id is above every pid_max.
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include <weft/weft.h>

#if WEFT_VERSION_NUMBER < WEFT_VERSION_OF(0, 1, 0)
#error "older than the first version"
#endif

enum { kThreads = 100, kFirstFiberId = 1 << 29 };

static pthread_barrier_t all_here, counted;

static void* report(void* id) {
  *(pid_t*)id = gettid();
  pthread_barrier_wait(&all_here);
  pthread_barrier_wait(&counted);
  return NULL;
}

static int count_kernel_threads(void) {
  int count = 0;
  DIR* tasks = opendir("/proc/self/task");
  if (tasks == NULL) return -1;
  for (const struct dirent* task; (task = readdir(tasks)) != NULL;) count += task->d_name[0] != '.';
  closedir(tasks);
  return count;
}

int main(void) {
  pthread_t threads[kThreads];
  pid_t ids[kThreads];
  int fibers = 0;
  pthread_barrier_init(&all_here, NULL, kThreads + 1);
  pthread_barrier_init(&counted, NULL, kThreads + 1);
  for (int i = 0; i < kThreads; i++) {
    if (pthread_create(&threads[i], NULL, report, &ids[i]) != 0) return 1;
  }
  pthread_barrier_wait(&all_here);
  const int kernel_threads = count_kernel_threads();
  pthread_barrier_wait(&counted);
  for (int i = 0; i < kThreads; i++) {
    if (pthread_join(threads[i], NULL) != 0) return 1;
    fibers += ids[i] >= kFirstFiberId;
  }
  printf("version %d.%d.%d, fibers %d of %d, kernel threads %d\n", WEFT_VERSION_MAJOR,
         WEFT_VERSION_MINOR, WEFT_VERSION_PATCH, fibers, kThreads, kernel_threads);
  return 0;
}
