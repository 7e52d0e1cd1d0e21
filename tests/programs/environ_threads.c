// environ_threads.c - the environment, the working folder and other process-wide state, seen by
// threads.
// Checks getenv(3) (MT-Safe while nobody changes the environment), setenv(3), chdir(2), umask(2),
// getrlimit(2): what one thread sets, every thread has, because it belongs to the process.
// SPDX-License-Identifier: Apache-2.0
#include <locale.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/programs/expect.h"

enum { kThreads = 16, kRounds = 50 };

extern char** environ;

static void variable_of(int thread, char* name, char* value) {
  snprintf(name, 32, "WEFT_PROGRAM_%d", thread);
  snprintf(value, 32, "value of thread %d", thread);
}

static void* set_own_variable(void* argument) {
  char name[32], value[32];
  variable_of((int)(intptr_t)argument, name, value);
  for (int i = 0; i < kRounds; i++) {
    EXPECT_EQ(setenv(name, value, 1), 0);
    if (i % 10 == 0) sched_yield();
  }
  return NULL;
}

static void* read_all_variables(void* argument) {
  char name[32], value[32];
  for (int i = 0; i < kThreads * kRounds; i++) {
    variable_of(i % kThreads, name, value);
    const char* found = getenv(name);
    EXPECT(found != NULL && strcmp(found, value) == 0);
  }
  EXPECT(getenv("WEFT_PROGRAM_NOT_SET") == NULL);
  return argument;
}

static void run_threads(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(body, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void variables_are_shared(void) {
  run_threads(set_own_variable);
  run_threads(read_all_variables);
  int count = 0;
  for (char** entry = environ; *entry != NULL; entry++) {
    count += strncmp(*entry, "WEFT_PROGRAM_", strlen("WEFT_PROGRAM_")) == 0;
  }
  EXPECT_EQ(count, kThreads);
}

static void* change_process_state(void* argument) {
  EXPECT_SYS(chdir("/proc"));
  umask(027);
  const struct rlimit limit = {64, 64};
  EXPECT_SYS(setrlimit(RLIMIT_CORE, &limit));
  return argument;
}

static void folder_mask_and_limits_are_shared(void) {
  char folder[64];
  join_thread(start_thread(change_process_state, NULL));
  EXPECT(getcwd(folder, sizeof folder) != NULL);
  EXPECT_EQ(strcmp(folder, "/proc"), 0);
  EXPECT_EQ(umask(0), 027);
  struct rlimit limit;
  EXPECT_SYS(getrlimit(RLIMIT_CORE, &limit));
  EXPECT_EQ(limit.rlim_cur, 64);
}

static void* use_own_locale(void* argument) {
  const locale_t c_locale = newlocale(LC_ALL_MASK, (intptr_t)argument % 2 ? "C.UTF-8" : "C", NULL);
  EXPECT(c_locale != NULL);
  EXPECT(uselocale(c_locale) == LC_GLOBAL_LOCALE);
  for (int i = 0; i < kRounds; i++) {
    sched_yield();
    // The locale is the thread's own: é is two letters' worth of bytes only where UTF-8 is known.
    EXPECT_EQ(mblen("\xc3\xa9", 2), (intptr_t)argument % 2 ? 2 : -1);
    EXPECT_EQ(mblen(NULL, 0), 0);
    EXPECT(uselocale((locale_t)0) == c_locale);
  }
  uselocale(LC_GLOBAL_LOCALE);
  freelocale(c_locale);
  return NULL;
}

static void locales_are_the_threads_own(void) {
  run_threads(use_own_locale);
}

int main(void) {
  RUN(variables_are_shared);
  RUN(folder_mask_and_limits_are_shared);
  RUN(locales_are_the_threads_own);
  return 0;
}
