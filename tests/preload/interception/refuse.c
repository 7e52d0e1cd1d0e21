// refuse.c - executes a program for which the kernel refuses some system calls (seccomp(2)).
//   refuse NAME=ERRNO [NAME=ERRNO ...] -- PROGRAM [args]
// NAME is one of the table below: a call, or a call with one bit of an argument. The filter is what
// a container's policy would be; it stays for good, so only the executed program has it.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kRulesMax = 16, kPrSetSyscallUserDispatch = 59 };

// Refused if the call's number is `number` and its argument has all of `bits`; or, where `equals`
// is set, has that value.
struct Rule {
  const char* name;
  unsigned number;
  int argument;  // -1: whatever the arguments are
  unsigned bits;
  unsigned equals;
};

static const struct Rule kRules[] = {
    {"io_uring_setup", SYS_io_uring_setup, -1, 0, 0},
    {"pwrite64", SYS_pwrite64, -1, 0, 0},
    {"mprotect-to-code", SYS_mprotect, 2, PROT_EXEC, 0},
    {"user-dispatch", SYS_prctl, 0, 0, kPrSetSyscallUserDispatch},
    {"new-threads", SYS_clone3, -1, 0, 0},
};

static const struct {
  const char* name;
  int number;
} kErrors[] = {{"EPERM", EPERM}, {"ENOSYS", ENOSYS}, {"EACCES", EACCES}, {"ENOMEM", ENOMEM}};

static struct sock_filter filter[8 * kRulesMax];
static unsigned short length;

static void add(struct sock_filter instruction) {
  filter[length++] = instruction;
}

static void add_rule(const struct Rule* rule, int error) {
  const int steps = rule->argument < 0 ? 1 : 3;
  add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
  add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->number, 0, steps));
  if (rule->argument >= 0) {
    const size_t low_half = offsetof(struct seccomp_data, args) + 8 * (size_t)rule->argument;
    add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low_half));
    add(rule->equals != 0
            ? (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->equals, 0, 1)
            : (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, rule->bits, 0, 1));
  }
  add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error));
}

static int parse_rule(char* word) {
  char* equals = strchr(word, '=');
  if (equals == NULL) return 0;
  *equals = 0;
  for (size_t i = 0; i < sizeof kRules / sizeof kRules[0]; i++) {
    if (strcmp(kRules[i].name, word) != 0) continue;
    for (size_t j = 0; j < sizeof kErrors / sizeof kErrors[0]; j++) {
      if (strcmp(kErrors[j].name, equals + 1) != 0) continue;
      add_rule(&kRules[i], kErrors[j].number);
      return 1;
    }
  }
  return 0;
}

int main(int argc, char** argv) {
  int at = 1;
  for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
    if (at > kRulesMax || !parse_rule(argv[at])) {
      fprintf(stderr, "refuse: %s is not NAME=ERRNO of the tables in refuse.c\n", argv[at]);
      return 64;
    }
  }
  if (at + 1 >= argc) {
    fprintf(stderr, "refuse: NAME=ERRNO ... -- PROGRAM\n");
    return 64;
  }
  add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const struct sock_fprog program = {.len = length, .filter = filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("refuse: seccomp");
    return 77;
  }
  execvp(argv[at + 1], argv + at + 1);
  perror(argv[at + 1]);
  return 127;
}
