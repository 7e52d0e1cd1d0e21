// bound_mode.c - threads with kernel state of their own among threads without: 20 and 50.
// Checks that unshare(2), setns(2), personality(2), setfsuid(2), ioprio_set(2), capset(2),
// keyctl(2), seccomp(2), prctl(2) PR_SET_SECCOMP, landlock_restrict_self(2), ptrace(2) and their
// kin act on the calling thread only, and that it still locks, waits, reads, sleeps, is joined.
// A call that the system refuses (EPERM, ENOSYS, ...) is left out of its thread, not of the output.
// SPDX-License-Identifier: Apache-2.0
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/fsuid.h>
#include <sys/io.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/programs/expect.h"

enum {
  kBound = 20,
  kUnbound = 50,
  kThreads = kBound + kUnbound,
  kRounds = 25,
  kNobody = 65534,
  kIdleClass = 3 << 13,  // IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)
  kSelf = 1,             // IOPRIO_WHO_PROCESS
  kSetSelfAttribute = 460
};

static char folder[kPathMax], start_folder[kPathMax];

// What a call may be refused with where it is not to be had.
static int is_refused(long result) {
  if (result != -1) return 0;
  return errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EOPNOTSUPP ||
         errno == ENOSPC || errno == EINVAL || errno == ENOENT;
}

static void expect_folder(const char* expected) {
  char found[kPathMax];
  EXPECT(getcwd(found, sizeof found) != NULL);
  EXPECT(strcmp(found, expected) == 0);
}

// --- what makes a thread bound; each keeps its effect for the rest of the thread's life

static void leave_for_another_folder(void) {
  EXPECT_SYS(unshare(CLONE_FS));
  EXPECT_SYS(chdir(folder));
  umask(077);
  sleep_ms(1);
  expect_folder(folder);
}

static void rename_own_host(void) {
  char before[128], after[128];
  EXPECT_SYS(gethostname(before, sizeof before));
  if (is_refused(unshare(CLONE_NEWUTS))) return;
  EXPECT_SYS(sethostname("weft-bound", 10));
  EXPECT_SYS(gethostname(after, sizeof after));
  EXPECT(strcmp(after, "weft-bound") == 0);
  const int first = (int)EXPECT_SYS(open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC));
  EXPECT_SYS(setns(first, CLONE_NEWUTS));
  EXPECT_SYS(gethostname(after, sizeof after));
  EXPECT(strcmp(after, before) == 0);
  EXPECT_SYS(close(first));
}

static void take_a_personality(void) {
  const int before = (int)EXPECT_SYS(personality(0xffffffff));
  EXPECT_EQ(personality((unsigned long)before | ADDR_NO_RANDOMIZE), before);
  sleep_ms(1);
  EXPECT_EQ(personality(0xffffffff), before | ADDR_NO_RANDOMIZE);
}

static void become_nobody_for_files(void) {
  const int uid = setfsuid((uid_t)-1), gid = setfsgid((gid_t)-1);
  const int target = geteuid() == 0 ? kNobody : uid;
  EXPECT_EQ(setfsgid((gid_t)(geteuid() == 0 ? kNobody : gid)), gid);
  EXPECT_EQ(setfsuid((uid_t)target), uid);
  sleep_ms(1);
  EXPECT_EQ(setfsuid((uid_t)-1), target);
}

static void ask_for_idle_disk_time(void) {
  EXPECT_SYS(syscall(SYS_ioprio_set, kSelf, 0, kIdleClass));
  sleep_ms(1);
  EXPECT_EQ(syscall(SYS_ioprio_get, kSelf, 0), kIdleClass);
}

static void set_the_same_capabilities(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2], after[2];
  EXPECT_SYS(syscall(SYS_capget, &header, data));
  EXPECT_SYS(syscall(SYS_capset, &header, data));
  EXPECT_SYS(syscall(SYS_capget, &header, after));
  EXPECT_EQ(memcmp(data, after, sizeof data), 0);
}

static void keep_a_key(void) {
  char name[32], found[8] = "";
  snprintf(name, sizeof name, "weft:%d", (int)gettid());
  const long ring = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1);
  if (is_refused(ring)) return;
  const long key =
      EXPECT_SYS(syscall(SYS_add_key, "user", name, "bound", 5, KEY_SPEC_THREAD_KEYRING));
  sleep_ms(1);
  EXPECT_EQ(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0), ring);
  EXPECT_EQ(syscall(SYS_request_key, "user", name, NULL, 0), key);
  EXPECT_EQ(syscall(SYS_keyctl, KEYCTL_READ, key, found, sizeof found), 5);
  EXPECT(strcmp(found, "bound") == 0);
}

static struct sock_filter allow_all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
// getppid answers 4242 errors; everything else passes.
static struct sock_filter refuse_one[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, __builtin_offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};

static void filter_by_prctl(void) {
  const struct sock_fprog program = {.len = 1, .filter = allow_all};
  EXPECT_SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  EXPECT_SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
  EXPECT_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  EXPECT_EQ(prctl(PR_GET_SECCOMP), SECCOMP_MODE_FILTER);
}

static void filter_by_seccomp(void) {
  const struct sock_fprog program = {.len = 4, .filter = refuse_one};
  EXPECT_SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  EXPECT_SYS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
  EXPECT_ERRNO(syscall(SYS_getppid), EXDEV);
  sleep_ms(1);
  EXPECT_ERRNO(syscall(SYS_getppid), EXDEV);
}

static void forbid_own_folders(void) {
  char path[kPathMax];
  const struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_DIR};
  const long ruleset = syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
  if (is_refused(ruleset)) return;
  EXPECT_SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  EXPECT_SYS(syscall(SYS_landlock_restrict_self, ruleset, 0));
  EXPECT_SYS(close((int)ruleset));
  EXPECT(snprintf(path, sizeof path, "%.400s/forbidden", folder) > 0);
  sleep_ms(1);
  EXPECT_ERRNO(mkdir(path, 0700), EACCES);
}

static void trace_a_child(void) {
  int status = 0;
  const pid_t child = (pid_t)EXPECT_SYS(fork());
  if (child == 0) {
    for (;;) pause();
  }
  const long attached = ptrace(PTRACE_ATTACH, child, NULL, NULL);
  if (!is_refused(attached)) {
    EXPECT_SYS(attached);
    EXPECT_EQ(waitpid(child, &status, __WALL), child);
    EXPECT(WIFSTOPPED(status));
    // Only the tracer, a thread, may ask this (ptrace(2)).
    EXPECT_SYS(ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL));
    EXPECT_SYS(ptrace(PTRACE_DETACH, child, NULL, NULL));
  }
  EXPECT_SYS(kill(child, SIGKILL));
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void count_own_events(void) {
  uint64_t count = 0;
  struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE,
                                       .size = sizeof attributes,
                                       .config = PERF_COUNT_SW_TASK_CLOCK,
                                       .exclude_kernel = 1};
  const long fd = syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
  if (is_refused(fd)) return;
  EXPECT_EQ(read((int)fd, &count, sizeof count), sizeof count);
  EXPECT_SYS(close((int)fd));
}

static void lock_pages_by_key(void) {
  const int key = pkey_alloc(0, 0);
  if (is_refused(key)) return;
  void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(page != MAP_FAILED);
  EXPECT_SYS(pkey_mprotect(page, 4096, PROT_READ | PROT_WRITE, key));
  EXPECT_SYS(pkey_set(key, PKEY_DISABLE_ACCESS));
  sleep_ms(1);
  EXPECT_EQ(pkey_get(key), PKEY_DISABLE_ACCESS);
  EXPECT_SYS(munmap(page, 4096));
  EXPECT_SYS(pkey_set(key, 0));
  EXPECT_SYS(pkey_free(key));
}

// The calls whose effect a program can hardly see: that they answer as the kernel does is all.
static void make_the_quiet_calls(void) {
  const long policy = syscall(SYS_set_mempolicy, 0 /* MPOL_DEFAULT */, NULL, 0);
  EXPECT(policy == 0 || is_refused(policy));
  const long level = iopl(0);
  EXPECT(level == 0 || is_refused(level));
  const long ports = ioperm(0x80, 1, 0);
  EXPECT(ports == 0 || is_refused(ports));
  EXPECT(is_refused(syscall(kSetSelfAttribute, 0, NULL, 0, 0)));
  const long log_bytes = syscall(SYS_syslog, 10 /* SYSLOG_ACTION_SIZE_BUFFER */, NULL, 0);
  EXPECT(log_bytes > 0 || is_refused(log_bytes));
}

static void (*const binders[])(void) = {
    leave_for_another_folder, rename_own_host,     take_a_personality, become_nobody_for_files,
    ask_for_idle_disk_time,   keep_a_key,          filter_by_prctl,    set_the_same_capabilities,
    filter_by_seccomp,        forbid_own_folders,  trace_a_child,      count_own_events,
    lock_pages_by_key,        make_the_quiet_calls};
enum { kBinders = sizeof binders / sizeof binders[0] };

// --- what all of them do together afterwards

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t passed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t all_bound;
static int turn, sum;
static int sockets[kThreads][2];

// A token goes round all threads: each waits for its turn and passes it on.
static void pass_the_token(int self) {
  for (int round = 0; round < kRounds; round++) {
    EXPECT_OK(pthread_mutex_lock(&lock));
    while (turn % kThreads != self) EXPECT_OK(pthread_cond_wait(&passed, &lock));
    turn++;
    EXPECT_OK(pthread_cond_broadcast(&passed));
    EXPECT_OK(pthread_mutex_unlock(&lock));
  }
}

static void add_under_the_lock(void) {
  for (int round = 0; round < kRounds; round++) {
    EXPECT_OK(pthread_mutex_lock(&lock));
    const int before = sum;
    if (round % 8 == 0) sched_yield();
    sum = before + 1;
    EXPECT_OK(pthread_mutex_unlock(&lock));
  }
}

// Thread i writes to the next one's socket and reads its own.
static void talk_to_neighbours(int self) {
  for (int round = 0; round < kRounds; round++) {
    const int sent = self * kRounds + round;
    int got = -1;
    EXPECT_EQ(write(sockets[(self + 1) % kThreads][1], &sent, sizeof sent), sizeof sent);
    EXPECT_EQ(recv(sockets[self][0], &got, sizeof got, MSG_WAITALL), sizeof got);
    EXPECT_EQ(got, (self + kThreads - 1) % kThreads * kRounds + round);
  }
}

static void* work_with_all(void* argument) {
  const int self = (int)(intptr_t)argument;
  const pid_t tid = gettid();
  // Bound ones spread evenly among the others.
  const int is_bound = self % 7 == 0 || self % 7 == 3;
  if (is_bound) binders[self / 7 * 2 % kBinders + (self % 7 == 3)]();
  pthread_barrier_wait(&all_bound);
  pass_the_token(self);
  add_under_the_lock();
  talk_to_neighbours(self);
  const long long start = clock_ns(CLOCK_MONOTONIC);
  sleep_ms(2);
  EXPECT(clock_ns(CLOCK_MONOTONIC) - start >= 2 * kMs);
  EXPECT_EQ(gettid(), tid);
  if (!is_bound) expect_folder(start_folder);
  return (void*)(intptr_t)(self + is_bound * 1000);
}

static void bound_and_unbound_threads_work_together(void) {
  pthread_t threads[kThreads];
  int bound = 0;
  turn = sum = 0;
  EXPECT_OK(pthread_barrier_init(&all_bound, NULL, kThreads));
  for (int i = 0; i < kThreads; i++) EXPECT_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets[i]));
  for (int i = 0; i < kThreads; i++) threads[i] = start_thread(work_with_all, (void*)(intptr_t)i);
  for (int i = 0; i < kThreads; i++) {
    const int result = (int)(intptr_t)join_thread(threads[i]);
    EXPECT_EQ(result % 1000, i);
    bound += result / 1000;
  }
  EXPECT_EQ(bound, kBound);
  EXPECT_EQ(turn, kThreads * kRounds);
  EXPECT_EQ(sum, kThreads * kRounds);
  for (int i = 0; i < kThreads; i++) {
    EXPECT_SYS(close(sockets[i][0]));
    EXPECT_SYS(close(sockets[i][1]));
  }
  EXPECT_OK(pthread_barrier_destroy(&all_bound));
}

static void* bind_each_way(void* argument) {
  binders[(intptr_t)argument]();
  return NULL;
}

// Before and after each: the thread that runs this one has what it had.
static void nobody_else_sees_the_change(void) {
  const int before = personality(0xffffffff), uid = setfsuid((uid_t)-1);
  const mode_t mask = umask(022);
  umask(mask);
  char path[kPathMax];
  EXPECT(snprintf(path, sizeof path, "%.400s/allowed", folder) > 0);
  for (int i = 0; i < kBinders; i++) {
    join_thread(start_thread(bind_each_way, (void*)(intptr_t)i));
    expect_folder(start_folder);
    EXPECT_EQ(umask(mask), mask);
    EXPECT_EQ(personality(0xffffffff), before);
    EXPECT_EQ(setfsuid((uid_t)-1), uid);
    EXPECT_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    EXPECT_EQ(prctl(PR_GET_SECCOMP), 0);
    EXPECT_EQ(syscall(SYS_getppid), getppid());
    EXPECT_SYS(mkdir(path, 0700));
    EXPECT_SYS(rmdir(path));
  }
}

static volatile sig_atomic_t signals;
static atomic_int is_bound_now, has_read;
static int never_written[2];

static void count_signal(int number) {
  (void)number;
  signals++;
}

static void* read_until_signalled(void* argument) {
  char byte;
  take_a_personality();
  is_bound_now = 1;
  while (signals == 0) EXPECT_ERRNO(read(never_written[0], &byte, 1), EINTR);
  has_read = 1;
  return argument;
}

static void a_signal_ends_a_bound_threads_read(void) {
  struct sigaction action = {.sa_handler = count_signal};
  EXPECT_SYS(sigaction(SIGUSR1, &action, NULL));
  EXPECT_SYS(pipe(never_written));
  const pthread_t reader = start_thread(read_until_signalled, NULL);
  AWAIT(is_bound_now == 1);
  // One that comes before the read does not end it; so until it has ended.
  while (has_read == 0) {
    EXPECT_OK(pthread_kill(reader, SIGUSR1));
    sleep_ms(1);
  }
  join_thread(reader);
  EXPECT_SYS(close(never_written[0]));
  EXPECT_SYS(close(never_written[1]));
}

static int count_ring_mappings(void) {
  char line[1024];
  int count = 0;
  FILE* maps = fopen("/proc/self/maps", "re");
  EXPECT(maps != NULL);
  while (fgets(line, sizeof line, maps) != NULL) count += strstr(line, "io_uring") != NULL;
  fclose(maps);
  return count;
}

// A ring counts against RLIMIT_MEMLOCK (getrlimit(2)): one kept for each would soon use it up.
static void ended_threads_leave_no_rings(void) {
  const int before = count_ring_mappings();
  for (int i = 0; i < 100; i++) join_thread(start_thread(bind_each_way, (void*)(intptr_t)2));
  // The latest may be about to end: a joiner goes on a moment earlier.
  AWAIT(count_ring_mappings() < before + 20);
}

int main(void) {
  EXPECT(getcwd(start_folder, sizeof start_folder) != NULL);
  temporary_template(folder);
  EXPECT(mkdtemp(folder) != NULL);
  // Others may go through it: a thread that is nobody for files changes to it, too.
  EXPECT_SYS(chmod(folder, 0755));
  RUN(bound_and_unbound_threads_work_together);
  RUN(nobody_else_sees_the_change);
  RUN(a_signal_ends_a_bound_threads_read);
  RUN(ended_threads_leave_no_rings);
  EXPECT_SYS(rmdir(folder));
  return 0;
}
