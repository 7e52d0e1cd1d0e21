#!/usr/bin/env python3
# failures_test.py - bad input, missing abilities of the system, and exhaustion.
# Malformed variables and refusals: one line that says what and why, in the first process only, and
# the program runs natively. Exhaustion: EAGAIN from pthread_create, nothing lost. A crash is the
# program's own.
# Usage: failures_test.py LIBRARY PROGRAMS OTHER-PROGRAMS (support.py)
# SPDX-License-Identifier: Apache-2.0
import os
import resource
import shutil

import support

NATIVELY = "; the program runs natively"
MIB = 1 << 20
# A program with threads that executes one with threads, twice.
NESTED = ("import subprocess, sys, threading\n"
          "t = threading.Thread(target=print, args=('outer',)); t.start(); t.join()\n"
          "for _ in range(2):\n"
          "  subprocess.run([sys.executable, '-c', 'import threading\\n'\n"
          "    't = threading.Thread(target=print, args=(\"inner\",)); t.start(); t.join()'])\n")
MALFORMED = {
    "WEFT": (("", "2", "yes"), "must be 0 or 1"),
    "WEFT_WORKERS": (("0", "65", "", "-1", "2x", " 2", "0x2", "99999999999999999999"),
                     "must be a number from 1 to 64"),
    "WEFT_BLOCKING_MAX": (("0", "1025", "many"), "must be a number from 1 to 1024"),
    "WEFT_STACK_SIZE": (("0", "16383", "1M", "1099511627777"),
                        "must be a number of bytes from 16384 to 1099511627776"),
    "WEFT_INTERCEPT": (("", "off", "patched", "Patch"), "must be patch, audit or dispatch"),
    "WEFT_STATS": (("2",), "must be 0 or 1"),
    "WEFT_FOLLOW": (("no",), "must be 0 or 1"),
    "WEFT_VERBOSE": (("true",), "must be 0 or 1"),
    "WEFT_CACHE": (("-",), "must be 0 or 1"),
}


def limits(**values):
  """A preexec_fn that sets resource limits; keys are the names without RLIMIT_."""
  def apply():
    for name, value in values.items():
      resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
  return apply


class Failures(support.Case):

  def assert_native_with_line(self, result, line):
    native = self.natively(self.program("stack_sizes"))
    self.assertEqual((result.status, result.stdout), (native.status, native.stdout))
    self.assertEqual(result.stderr, line + "\n")

  def refused(self, *rules, program=None, **variables):
    command = program or (self.program("stack_sizes"),)
    result = self.under_weft(self.program("refuse"), *rules, "--", *command, variables=variables)
    if result.status == 77:
      self.skipTest("no seccomp filter here: " + result.stderr)
    return result

  def test_malformed_variables_are_named(self):
    for name, (values, allowed) in MALFORMED.items():
      for value in values:
        with self.subTest(name=name, value=value):
          result = self.under_weft(self.program("stack_sizes"), variables={name: value})
          self.assert_native_with_line(
              result, "weft: %s=%s: %s%s" % (name, value, allowed, NATIVELY))

  def test_a_very_long_value_is_cut(self):
    result = self.under_weft(self.program("stack_sizes"), variables={"WEFT_WORKERS": "7" * 5000})
    self.assertEqual(result.status, 0)
    self.assertRegex(result.stderr, r"^weft: WEFT_WORKERS=7{99}\.\.\.: must be a number from 1 to "
                                    r"64; the program runs natively\n$")

  def test_reasons_are_told_in_the_first_process_only(self):
    native = self.natively(support.PYTHON, "-c", NESTED)
    self.assertEqual((native.status, native.stderr), (0, ""))
    result = self.under_weft(support.PYTHON, "-c", NESTED, variables={"WEFT_WORKERS": "none"})
    self.assertEqual(sorted(result.stdout.split()), sorted(native.stdout.split()))
    self.assertEqual(result.stderr, "weft: WEFT_WORKERS=none: must be a number from 1 to 64"
                     + NATIVELY + "\n")

  def test_a_program_without_threads_hears_nothing(self):
    result = self.under_weft("/bin/echo", "hello", variables={"WEFT_WORKERS": "0"})
    self.assertEqual((result.status, result.stdout, result.stderr), (0, "hello\n", ""))

  def test_refused_io_uring_is_told(self):
    for error in ("EPERM", "ENOSYS"):
      with self.subTest(error):
        self.assert_native_with_line(self.refused("io_uring_setup=" + error),
                                     "weft: io_uring is refused here" + NATIVELY)

  def test_refused_io_uring_is_told_once(self):
    result = self.refused("io_uring_setup=EPERM", program=(support.PYTHON, "-c", NESTED))
    self.assertEqual(result.status, 0)
    self.assertEqual(result.weft_lines(), ["weft: io_uring is refused here" + NATIVELY])

  def test_code_that_cannot_be_written_is_told(self):
    result = self.refused("pwrite64=EPERM", "mprotect-to-code=EACCES")
    self.assert_native_with_line(
        result, "weft: code cannot be patched: /proc/self/mem and mprotect refuse to write it"
        + NATIVELY)

  def test_either_way_of_writing_code_will_do(self):
    native = self.natively(self.program("stack_sizes"))
    for rule in ("pwrite64=EPERM", "mprotect-to-code=EACCES"):
      with self.subTest(rule):
        result = self.refused(rule, WEFT_STATS="1")
        self.assertEqual((result.status, result.stdout), (native.status, native.stdout))
        self.assertIn("threads born 4", result.stderr)

  def test_refused_user_dispatch_is_told(self):
    for mode in ("audit", "dispatch"):
      result = self.refused("user-dispatch=EPERM", WEFT_INTERCEPT=mode)
      self.assert_native_with_line(
          result, "weft: WEFT_INTERCEPT: this system refuses Syscall User Dispatch (Linux 5.11 "
          "has it)" + NATIVELY)
    served = self.refused("user-dispatch=EPERM", WEFT_STATS="1")
    self.assertIn("threads born 4", served.stderr)

  def test_exhaustion_of_address_space(self):
    # From "not even a worker" to "some hundred stacks": native or served, it must work.
    for megabytes in (100, 200, 400, 800, 1600, 4000):
      with self.subTest(megabytes=megabytes):
        result = self.under_weft(self.program("threads_until_failure"),
                                 preexec_fn=limits(AS=megabytes * MIB))
        self.assertEqual((result.status, result.stdout),
                         (0, "refused with EAGAIN, and nothing was lost\n"), result.stderr)
        self.assertLessEqual(len(result.stderr.splitlines()), 1)

  def test_few_descriptors_are_enough(self):
    for count in (16, 64):
      with self.subTest(count=count):
        native = self.natively(self.program("descriptors"), preexec_fn=limits(NOFILE=count))
        other = self.under_weft(self.program("descriptors"), preexec_fn=limits(NOFILE=count))
        self.assertEqual(native.status, 0, native.stderr)
        self.assert_same(native, other)

  def test_little_locked_memory_is_enough(self):
    for size in (0, 65536):
      with self.subTest(size=size):
        result = self.under_weft(self.program("park_races"), preexec_fn=limits(MEMLOCK=size))
        self.assertEqual((result.status, result.stderr), (0, ""))

  def test_few_kernel_threads_are_enough(self):
    if os.geteuid() != 0:
      self.skipTest("only root can become a user without other processes")
    # A copy where that user can read it.
    library = os.path.join(self.folder, "libweft.so")
    program = os.path.join(self.folder, "park_races")
    shutil.copy(self.library, library)
    shutil.copy(self.program("park_races"), program)
    user = 54321  # nobody's
    for processes in (1, 2, 3, 16):
      with self.subTest(processes=processes):
        result = self.under_weft(program, user=user, group=user, extra_groups=[],
                                 variables={"LD_PRELOAD": library, "WEFT_WORKERS": "4",
                                            "HOME": "/nonexistent"},
                                 preexec_fn=limits(NPROC=processes))
        self.assertEqual((result.status, result.stderr), (0, ""))

  def test_crashes_are_the_programs_own(self):
    for how in ("fault", "abort", "illegal", "divide", "bus", "overflow", "kill"):
      with self.subTest(how):
        native = self.natively(self.program("crash"), how, preexec_fn=limits(CORE=0))
        self.assertLess(native.status, 0)
        for workers in ("1", "4"):
          other = self.under_weft(self.program("crash"), how, variables={"WEFT_WORKERS": workers},
                                  preexec_fn=limits(CORE=0))
          self.assert_same(native, other)

  def test_a_crash_leaves_a_core_as_natively(self):
    def cores_of(environment):
      before = set(os.listdir(self.folder))
      result = self.run_in(environment, self.program("crash"), "fault",
                           preexec_fn=limits(CORE=resource.RLIM_INFINITY))
      made = set(os.listdir(self.folder)) - before
      for name in made:
        os.unlink(os.path.join(self.folder, name))
      return result.status, len(made)
    native = cores_of(self.environment())
    self.assertEqual(cores_of(self.weft_environment(WEFT_CACHE="0")), native)


if __name__ == "__main__":
  support.main()
