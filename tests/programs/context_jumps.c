// context_jumps.c - setjmp, longjmp, ucontext coroutines and alternate signal stacks inside
// threads. Checks makecontext(3) and swapcontext(3) (a coroutine may block on its own stack),
// setjmp(3), sigsetjmp(3) (the mask is restored), sigaltstack(2) (each thread has its own).
// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/programs/expect.h"

enum { kThreads = 12, kSwitches = 300, kStackBytes = 64 * 1024 };

struct Coroutine {
  ucontext_t caller, own;
  char* stack;
  int steps;
};

static void step_for_ever(unsigned low, unsigned high) {
  struct Coroutine* self = (struct Coroutine*)(((uintptr_t)high << 32) | low);
  double sum = 0.5;
  for (int i = 0;; i++) {
    // Blocks and yields while on a stack that the thread library has never seen.
    if (i % 64 == 0) {
      sleep_ms(1);
    } else if (i % 4 == 0) {
      sched_yield();
    }
    sum += 1.0;
    EXPECT(sum == 1.5 + i);
    self->steps++;
    EXPECT_SYS(swapcontext(&self->own, &self->caller));
  }
}

static void prepare_coroutine(struct Coroutine* coroutine) {
  memset(coroutine, 0, sizeof *coroutine);
  coroutine->stack = malloc(kStackBytes);
  EXPECT(coroutine->stack != NULL);
  EXPECT_SYS(getcontext(&coroutine->own));
  coroutine->own.uc_stack.ss_sp = coroutine->stack;
  coroutine->own.uc_stack.ss_size = kStackBytes;
  // makecontext() hands on int arguments only: a pointer goes in two halves.
  const uintptr_t address = (uintptr_t)coroutine;
  makecontext(&coroutine->own, (void (*)(void))step_for_ever, 2, (unsigned)address,
              (unsigned)(address >> 32));
}

static void* run_coroutines(void* argument) {
  struct Coroutine pair[2];
  prepare_coroutine(&pair[0]);
  prepare_coroutine(&pair[1]);
  for (int i = 0; i < kSwitches; i++) {
    EXPECT_SYS(swapcontext(&pair[i % 2].caller, &pair[i % 2].own));
    EXPECT_EQ(pair[i % 2].steps, i / 2 + 1);
  }
  free(pair[0].stack);
  free(pair[1].stack);
  return argument;
}

static void run_threads(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(body, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void coroutines_run_inside_threads(void) {
  run_threads(run_coroutines);
}

static __attribute__((noinline, noreturn)) void jump_from_depth(jmp_buf* target, int depth,
                                                                int value) {
  if (depth == 0) {
    sched_yield();
    longjmp(*target, value);
  }
  jump_from_depth(target, depth - 1, value);
}

static void* jump_back(void* argument) {
  jmp_buf target;
  for (volatile int i = 1; i <= kSwitches; i++) {
    const int value = setjmp(target);
    if (value == 0) {
      if (i % 50 == 0) sleep_ms(1);
      jump_from_depth(&target, i % 10, i);
    }
    EXPECT_EQ(value, i);
  }
  return argument;
}

static void long_jumps_land_in_their_thread(void) {
  run_threads(jump_back);
}

static __thread sigjmp_buf from_handler;
static __thread char* alternate_stack;
static __thread int handler_calls;

static void jump_out(int signal) {
  const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  // The handler runs on the stack that this thread, and no other, has given.
  EXPECT(here > (uintptr_t)alternate_stack && here < (uintptr_t)alternate_stack + kStackBytes);
  handler_calls++;
  siglongjmp(from_handler, signal);
}

static void* take_signals_on_own_stack(void* argument) {
  alternate_stack = malloc(kStackBytes);
  EXPECT(alternate_stack != NULL);
  const stack_t given = {.ss_sp = alternate_stack, .ss_size = kStackBytes};
  stack_t found;
  EXPECT_SYS(sigaltstack(NULL, &found));
  EXPECT_EQ(found.ss_flags, SS_DISABLE);
  EXPECT_SYS(sigaltstack(&given, NULL));
  for (volatile int i = 1; i <= 20; i++) {
    const int signal = sigsetjmp(from_handler, 1);
    if (signal == 0) {
      sched_yield();
      EXPECT_OK(pthread_kill(pthread_self(), SIGUSR1));
      expect_failed(__FILE__, __LINE__, "the signal was not delivered before pthread_kill's end");
    }
    EXPECT_EQ(signal, SIGUSR1);
    EXPECT_EQ(handler_calls, i);
    sigset_t mask;
    EXPECT_OK(pthread_sigmask(SIG_SETMASK, NULL, &mask));
    EXPECT_EQ(sigismember(&mask, SIGUSR1), 0);
    EXPECT_SYS(sigaltstack(NULL, &found));
    EXPECT(found.ss_sp == alternate_stack);
  }
  const stack_t none = {.ss_flags = SS_DISABLE};
  EXPECT_SYS(sigaltstack(&none, NULL));
  free(alternate_stack);
  return argument;
}

static void handlers_run_on_their_alternate_stack(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = jump_out;
  action.sa_flags = SA_ONSTACK;
  EXPECT_SYS(sigaction(SIGUSR1, &action, NULL));
  run_threads(take_signals_on_own_stack);
}

static __thread char* guarded_page;
static __thread volatile int faults;

static void open_page(int signal, siginfo_t* info, void* context) {
  (void)context;
  EXPECT_EQ(signal, SIGSEGV);
  EXPECT_EQ((uintptr_t)info->si_addr, (uintptr_t)guarded_page);
  faults++;
  EXPECT_SYS(mprotect(guarded_page, 4096, PROT_READ | PROT_WRITE));
}

static void* touch_guarded_pages(void* argument) {
  for (int i = 1; i <= 10; i++) {
    guarded_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(guarded_page != MAP_FAILED);
    *(volatile char*)guarded_page = 'w';
    EXPECT_EQ(faults, i);
    EXPECT_EQ(*guarded_page, 'w');
    sched_yield();
    EXPECT_SYS(munmap(guarded_page, 4096));
  }
  return argument;
}

static void faults_are_handled_where_they_happen(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = open_page;
  action.sa_flags = SA_SIGINFO;
  EXPECT_SYS(sigaction(SIGSEGV, &action, NULL));
  run_threads(touch_guarded_pages);
}

int main(void) {
  RUN(coroutines_run_inside_threads);
  RUN(long_jumps_land_in_their_thread);
  RUN(handlers_run_on_their_alternate_stack);
  RUN(faults_are_handled_where_they_happen);
  return 0;
}
