// doors.cc - the libc names that this library takes over: those that start a thread. Each boots the
// runtime and goes on to libc's own. They are exported without a version, which satisfies a
// reference to any (pthread_create@GLIBC_2.2.5 and @GLIBC_2.34 are both in use).
// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <pthread.h>
#include <threads.h>

#include "preload/boot.h"

namespace {

template <typename Function>
Function libc_function(const char* name) {
  // dlsym finds the oldest version of a symbol; ask for the one that new programs link to first.
  void* symbol = dlvsym(RTLD_NEXT, name, "GLIBC_2.34");
  if (symbol == nullptr) symbol = dlsym(RTLD_NEXT, name);
  return reinterpret_cast<Function>(symbol);
}

}  // namespace

extern "C" {

[[gnu::visibility("default")]] int door_pthread_create(pthread_t* thread,
                                                       const pthread_attr_t* attributes,
                                                       void* (*start)(void*),
                                                       void* argument) __asm__("pthread_create");
[[gnu::visibility("default")]] int door_thrd_create(thrd_t* thread, thrd_start_t start,
                                                    void* argument) __asm__("thrd_create");

int door_pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                        void* (*start)(void*), void* argument) {
  static decltype(&pthread_create) libc_create = nullptr;
  if (libc_create == nullptr) {
    libc_create = libc_function<decltype(&pthread_create)>("pthread_create");
  }
  weft::preload::boot();
  return libc_create(thread, attributes, start, argument);
}

int door_thrd_create(thrd_t* thread, thrd_start_t start, void* argument) {
  static decltype(&thrd_create) libc_create = nullptr;
  if (libc_create == nullptr) libc_create = libc_function<decltype(&thrd_create)>("thrd_create");
  weft::preload::boot();
  return libc_create(thread, start, argument);
}

}  // extern "C"
