// child_programs.c - other programs are started from threads: exec, spawn, system, popen, vfork.
// Checks execve(2) "all threads other than the calling thread are destroyed", posix_spawn(3),
// system(3), popen(3), vfork(2): status and output are those of the program that ran.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "tests/programs/loopback.h"

enum { kThreads = 6, kRounds = 2 };

extern char** environ;

static int exit_status_of(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void* run_in_each_way(void* argument) {
  const int self = (int)(intptr_t)argument;
  char command[64], text[64];
  for (int round = 0; round < kRounds; round++) {
    const int status = 10 + self;
    snprintf(command, sizeof command, "exit %d", status);
    EXPECT_EQ(WEXITSTATUS(system(command)), status);

    char* const spawn_arguments[] = {"sh", "-c", command, NULL};
    pid_t child;
    EXPECT_OK(posix_spawn(&child, "/bin/sh", NULL, NULL, spawn_arguments, environ));
    EXPECT_EQ(exit_status_of(child), status);

    child = (pid_t)EXPECT_SYS(fork());
    if (child == 0) {
      execv("/bin/sh", spawn_arguments);
      _exit(127);
    }
    EXPECT_EQ(exit_status_of(child), status);

    snprintf(command, sizeof command, "echo from thread %d", self);
    FILE* reader = popen(command, "r");
    EXPECT(reader != NULL && fgets(text, sizeof text, reader) != NULL);
    EXPECT_EQ(atoi(text + strlen("from thread ")), self);
    EXPECT_EQ(pclose(reader), 0);
  }
  return NULL;
}

static void threads_start_programs_at_once(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(run_in_each_way, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
}

static void popen_writes_to_a_program(void) {
  FILE* writer = popen("cat", "w");
  EXPECT(writer != NULL);
  EXPECT(fprintf(writer, "this line went through cat\n") > 0);
  EXPECT_EQ(pclose(writer), 0);
  EXPECT_EQ(WEXITSTATUS(pclose(popen("exit 9", "r"))), 9);
}

static void spawn_redirects_and_reports(void) {
  int ends[2];
  char text[64] = "";
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none;
  pid_t child;
  char* const arguments[] = {"sh", "-c", "echo redirected", NULL};
  EXPECT_SYS(pipe2(ends, O_CLOEXEC));
  EXPECT_OK(posix_spawn_file_actions_init(&actions));
  EXPECT_OK(posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO));
  EXPECT_OK(posix_spawnattr_init(&attributes));
  sigemptyset(&none);
  EXPECT_OK(posix_spawnattr_setsigmask(&attributes, &none));
  EXPECT_OK(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK));
  EXPECT_OK(posix_spawn(&child, "/bin/sh", &actions, &attributes, arguments, environ));
  EXPECT_SYS(close(ends[1]));
  EXPECT_EQ(read_all(ends[0], text, sizeof text), strlen("redirected\n"));
  EXPECT_EQ(strcmp(text, "redirected\n"), 0);
  EXPECT_EQ(exit_status_of(child), 0);
  EXPECT_EQ(posix_spawn(&child, "/nonexistent", NULL, NULL, arguments, environ), ENOENT);
}

static void vfork_waits_for_exec_or_exit(void) {
  char* const arguments[] = {"sh", "-c", "exit 21", NULL};
  volatile int written_by_child = 0;
  pid_t child = vfork();
  if (child == 0) {
    // vfork(2): the parent is suspended and its memory is shared until now.
    written_by_child = 1;
    execve("/bin/sh", arguments, environ);
    _exit(127);
  }
  EXPECT(child > 0);
  EXPECT_EQ(written_by_child, 1);
  EXPECT_EQ(exit_status_of(child), 21);
  child = vfork();
  if (child == 0) {
    execve("/nonexistent", arguments, environ);
    _exit(22);
  }
  EXPECT_EQ(exit_status_of(child), 22);
}

static void* exec_shell(void* argument) {
  execl("/bin/sh", "sh", "-c", "exit 31", (char*)NULL);
  return argument;
}

static void* pause_for_ever(void* argument) {
  for (;;) pause();
  return argument;
}

static void exec_from_a_thread_replaces_the_process(void) {
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    for (int i = 0; i < 5; i++) start_thread(pause_for_ever, NULL);
    join_thread(start_thread(exec_shell, NULL));
    _exit(32);
  }
  EXPECT_EQ(exit_status_of(child), 31);
}

static void exec_keeps_environment_and_pid(void) {
  char command[64], text[32] = "";
  EXPECT_EQ(setenv("WEFT_PROGRAM_VARIABLE", "handed on", 1), 0);
  FILE* reader = popen("printf '%s' \"$WEFT_PROGRAM_VARIABLE\"", "r");
  EXPECT(reader != NULL && fgets(text, sizeof text, reader) != NULL);
  EXPECT_EQ(strcmp(text, "handed on"), 0);
  EXPECT_EQ(pclose(reader), 0);
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    snprintf(command, sizeof command, "test $$ -eq %d", (int)getpid());
    execl("/bin/sh", "sh", "-c", command, (char*)NULL);
    _exit(127);
  }
  EXPECT_EQ(exit_status_of(child), 0);
}

int main(void) {
  RUN(threads_start_programs_at_once);
  RUN(popen_writes_to_a_program);
  RUN(spawn_redirects_and_reports);
  RUN(vfork_waits_for_exec_or_exit);
  RUN(exec_from_a_thread_replaces_the_process);
  RUN(exec_keeps_environment_and_pid);
  return 0;
}
