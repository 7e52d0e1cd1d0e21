// dlopen_tls.c - a library with thread-local variables is loaded while other threads exist and
// wait. Checks dlopen(3) and the TLS ABI (ELF Handling For Thread-Local Storage, 3.4): threads made
// before the load have the preset value too, in the initial-exec and in the global-dynamic model.
// Arguments: the paths of the two libraries made from tls_plugin.c.
// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <stdatomic.h>

#include "tests/programs/expect.h"

enum { kThreads = 40, kPreset = 1234 };

static const char* const* plugin_paths;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t loaded = PTHREAD_COND_INITIALIZER;
static int* (*plugin_value)(void);
static atomic_int waiting;

static int* own_value(void) {
  int* value = plugin_value();
  EXPECT_EQ(*value, kPreset);
  return value;
}

static void* wait_and_use(void* argument) {
  const int self = (int)(intptr_t)argument;
  EXPECT_OK(pthread_mutex_lock(&lock));
  waiting++;
  while (plugin_value == NULL) EXPECT_OK(pthread_cond_wait(&loaded, &lock));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  int* value = own_value();
  *value = self;
  for (int i = 0; i < 20; i++) {
    if (i % 5 == 0) {
      sleep_ms(1);
    } else {
      sched_yield();
    }
    EXPECT_EQ(*plugin_value(), self);
    EXPECT(plugin_value() == value);
  }
  return NULL;
}

static void* use_after_the_load(void* argument) {
  (void)argument;
  *own_value() = 1;
  return NULL;
}

static void load_while_threads_wait(const char* path) {
  plugin_value = NULL;
  waiting = 0;
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(wait_and_use, (void*)(intptr_t)i);
  AWAIT(waiting == kThreads);
  void* library = dlopen(path, RTLD_NOW);
  if (library == NULL) expect_failed(__FILE__, __LINE__, "%s", dlerror());
  void* symbol = dlsym(library, "plugin_value");
  EXPECT(symbol != NULL);
  EXPECT_OK(pthread_mutex_lock(&lock));
  memcpy(&plugin_value, &symbol, sizeof symbol);
  EXPECT_OK(pthread_cond_broadcast(&loaded));
  EXPECT_OK(pthread_mutex_unlock(&lock));
  *own_value() = 7;
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  for (int i = 0; i < kThreads; i++) join_thread(start_thread(use_after_the_load, NULL));
  EXPECT_EQ(*plugin_value(), 7);
  EXPECT_EQ(dlclose(library), 0);
}

static void initial_exec_reaches_old_threads(void) {
  load_while_threads_wait(plugin_paths[0]);
}
static void global_dynamic_reaches_old_threads(void) {
  load_while_threads_wait(plugin_paths[1]);
}

static void* load_and_unload(void* argument) {
  (void)argument;
  for (int i = 0; i < 20; i++) {
    void* library = dlopen(plugin_paths[1], RTLD_LAZY | RTLD_LOCAL);
    EXPECT(library != NULL);
    EXPECT(dlsym(library, "plugin_value") != NULL);
    EXPECT(dlsym(library, "no_such_symbol") == NULL);
    EXPECT(dlerror() != NULL);
    EXPECT(dlerror() == NULL);
    EXPECT_EQ(dlclose(library), 0);
  }
  return NULL;
}

static void threads_load_and_unload_at_once(void) {
  pthread_t threads[8];
  for (int i = 0; i < 8; i++) threads[i] = start_thread(load_and_unload, NULL);
  for (int i = 0; i < 8; i++) join_thread(threads[i]);
}

int main(int count, char** arguments) {
  if (count != 3) skip("give the paths of the two plugin libraries");
  plugin_paths = (const char* const*)&arguments[1];
  RUN(initial_exec_reaches_old_threads);
  RUN(global_dynamic_reaches_old_threads);
  RUN(threads_load_and_unload_at_once);
  return 0;
}
