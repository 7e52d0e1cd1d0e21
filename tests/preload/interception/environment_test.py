#!/usr/bin/env python3
# environment_test.py - what WEFT_* variables do to a program, and what it sees of us.
# Served programs keep their environment, their outputs and their children's; WEFT=0 and
# WEFT_FOLLOW=0 leave out the program or what it executes; WEFT_STACK_SIZE is for threads that ask
# for no size.
# Usage: environment_test.py LIBRARY PROGRAMS OTHER-PROGRAMS (support.py)
# SPDX-License-Identifier: Apache-2.0
import os

import support

OTHER_LIBRARY = "/lib/x86_64-linux-gnu/libm.so.6"
MIB = 1 << 20
# Tells whether the library is mapped in the executed shell, and its LD_PRELOAD.
SAY_PRELOAD = ('if grep -q libweft.so /proc/self/maps; then echo served; else echo native; fi; '
               'echo "[${LD_PRELOAD-unset}]"')


class Environment(support.Case):

  def sizes(self, **variables):
    result = self.under_weft(self.program("stack_sizes"), variables=variables)
    self.assertEqual((result.status, result.stderr), (0, ""))
    return [line.rsplit(": ", 1)[1] for line in result.stdout.splitlines()]

  def children(self, **variables):
    """What a shell says that a program with threads executes; without that program's own lines."""
    result = self.under_weft(self.program("stack_sizes"), "sh", "-c", SAY_PRELOAD,
                             variables=variables)
    self.assertEqual(result.status, 0, result.stderr)
    return result.stdout.splitlines()[4:], result.weft_lines()

  def test_children_are_served_by_default(self):
    self.assertEqual(self.children(), (["served", "[%s]" % self.library], []))

  def test_children_are_not_followed_if_so_asked(self):
    lines, said = self.children(WEFT_FOLLOW="0")
    self.assertEqual((lines, said), (["native", "[unset]"], []))

  def test_without_following_other_libraries_stay(self):
    for before, after in (
        (self.library + ":" + OTHER_LIBRARY, OTHER_LIBRARY),
        (OTHER_LIBRARY + " " + self.library, OTHER_LIBRARY),
        (OTHER_LIBRARY + ":" + self.library + ":" + OTHER_LIBRARY,
         OTHER_LIBRARY + ":" + OTHER_LIBRARY)):
      lines, said = self.children(WEFT_FOLLOW="0", LD_PRELOAD=before)
      self.assertEqual((lines, said), (["native", "[%s]" % after], []))

  def test_without_following_the_program_itself_is_served(self):
    result = self.under_weft(self.program("last_thread"), "exit_by_one",
                             variables={"WEFT_FOLLOW": "0", "WEFT_STATS": "1"})
    self.assertEqual(result.status, 0)
    self.assertIn("threads born 12", result.stderr)

  def test_switched_off_it_does_nothing(self):
    native = self.natively(self.program("stack_sizes"))
    other = self.under_weft(self.program("stack_sizes"),
                            variables={"WEFT": "0", "WEFT_STATS": "1", "WEFT_STACK_SIZE": "65536"})
    self.assert_same(native, other)
    told = self.under_weft(self.program("stack_sizes"),
                           variables={"WEFT": "0", "WEFT_VERBOSE": "1"})
    self.assertEqual((told.stdout, told.stderr),
                     (native.stdout, "weft: WEFT=0; the program runs natively\n"))

  def test_the_environment_of_children_is_unchanged(self):
    given = self.weft_environment(WEFT_STATS="0", EMPTY="", ODD="a=b c")
    result = self.run_in(given, self.program("stack_sizes"), "env", "-0")
    entries = result.stdout.split("\n", 4)[4].split("\0")[:-1]
    self.assertEqual(dict(entry.split("=", 1) for entry in entries), given)
    self.assertEqual(len(entries), len(given))

  def test_nothing_of_ours_is_printed(self):
    command = (support.PYTHON, "-c",
               "import threading, sys, os\n"
               "t = threading.Thread(target=lambda: print('on a thread', file=sys.stderr))\n"
               "t.start(); t.join(); print(sorted(os.environ.items() - [('LD_PRELOAD', '')])[0])")
    native = self.run_in(self.environment(A="1"), *command)
    other = self.run_in(self.weft_environment(A="1"), *command)
    self.assert_same(native, other)

  def test_a_stack_size_is_for_threads_that_ask_for_none(self):
    asked = 256 * 1024
    native = self.sizes()
    # The one that asks gets what it asked for; libc itself adds nothing to it.
    self.assertEqual(self.sizes(WEFT_STACK_SIZE=str(asked)),
                     [str(asked), str(asked), native[2], "256 KiB"])
    self.assertEqual(native[2], str(MIB))

  def test_a_privileged_program_is_left_alone(self):
    # ld.so drops the library by itself (ld.so(8), secure-execution mode); nothing is said.
    if os.geteuid() != 0:
      self.skipTest("only root can make a set-user-ID program")
    copy = os.path.join(self.folder, "privileged")
    with open(self.program("stack_sizes"), "rb") as source, open(copy, "wb") as target:
      target.write(source.read())
    os.chmod(copy, 0o4755)
    options = {"user": 65534, "group": 65534, "extra_groups": []}
    native = self.natively(copy, **options)
    other = self.under_weft(copy, **options)
    self.assertEqual((other.status, other.stdout), (native.status, native.stdout))
    self.assertEqual(other.weft_lines(), [])


if __name__ == "__main__":
  support.main()
