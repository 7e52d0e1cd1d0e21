#!/usr/bin/env python3
# run_pair_test.py - checks that run_pair.py tells every difference, and excuses only what it may.
# Method: the programs are shell scripts that look at WEFT_WORKERS, which only the run under weft
# has; an empty shared object stands for libweft.so. ctest runs it (label unit).
# SPDX-License-Identifier: Apache-2.0
"""Self-test of run_pair.py."""

import contextlib
import io
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True  # nothing is left in the source folder
import run_pair


class RunPairTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="weft-pair-test-")
        cls.library = os.path.join(cls.folder, "libnothing.so")
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise unittest.SkipTest("no C compiler for the empty library")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", cls.library],
            input=b"int weft_nothing;\n", check=True,
        )

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def program(self, text):
        path = os.path.join(self.folder, "program.sh")
        with open(path, "w", encoding="ascii") as script:
            script.write("#!/bin/sh\n" + text + "\n")
        os.chmod(path, stat.S_IRWXU)
        return path

    def run_pair(self, text, *options, native_only=False):
        """Returns run_pair's exit status and what it printed."""
        command = ["--native-only"] if native_only else ["--weft", self.library, "--workers", "1,2"]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = run_pair.main(command + list(options) + [self.program(text)])
        return status, output.getvalue()

    def ledger(self, text):
        path = os.path.join(self.folder, "ledger.txt")
        with open(path, "w", encoding="ascii") as ledger:
            ledger.write(text)
        return path

    def test_the_same_behaviour_passes(self):
        status, output = self.run_pair("echo out; echo err >&2; exit 0")
        self.assertEqual(status, 0)
        self.assertIn("with 2 workers: same", output)

    def test_stdout_is_compared(self):
        status, output = self.run_pair("echo line; echo workers $WEFT_WORKERS")
        self.assertEqual(status, 1)
        self.assertIn("stdout differs", output)
        self.assertIn("+workers 1", output)

    def test_stderr_is_compared(self):
        status, output = self.run_pair('test -z "$WEFT_WORKERS" || printf x >&2')
        self.assertEqual(status, 1)
        self.assertIn("stderr differs", output)

    def test_the_exit_status_is_compared(self):
        status, output = self.run_pair("exit ${WEFT_WORKERS:-0}")
        self.assertEqual(status, 1)
        self.assertIn("ended by exit status 2, natively by exit status 0", output)

    def test_signals_are_compared_and_expected(self):
        self.assertEqual(self.run_pair("kill -ABRT $$", "--expect", "SIGABRT")[0], 0)
        status, output = self.run_pair('test -z "$WEFT_WORKERS" || kill -TERM $$')
        self.assertEqual(status, 1)
        self.assertIn("ended by signal SIGTERM", output)

    def test_a_native_failure_is_never_excused(self):
        ledger = self.ledger("program.sh: known\n")
        status, output = self.run_pair("echo why; exit 3", "--ledger", ledger)
        self.assertEqual(status, 1)
        self.assertIn("native run 1 of program.sh: exit status 3", output)
        self.assertIn("why", output)

    def test_a_hang_is_ended(self):
        status, output = self.run_pair('test -z "$WEFT_WORKERS" || sleep 30', "--timeout", "0.3")
        self.assertEqual(status, 1)
        self.assertIn("no end within the timeout", output)

    def test_a_child_that_stays_does_not_hold_us(self):
        self.assertEqual(self.run_pair("sleep 30 & exit 0", "--timeout", "5")[0], 0)

    def test_a_native_skip_is_a_skip(self):
        status, output = self.run_pair("echo skipped: reason; exit 77")
        self.assertEqual(status, run_pair.SKIP_STATUS)
        self.assertIn("skipped: reason", output)

    def test_a_skip_under_weft_only_is_a_failure(self):
        self.assertEqual(self.run_pair('test -z "$WEFT_WORKERS" || exit 77')[0], 1)

    def test_a_known_failure_must_fail(self):
        ledger = self.ledger("# comment\n\nprogram.sh: not done yet\n")
        status, output = self.run_pair("exit ${WEFT_WORKERS:-0}", "--ledger", ledger)
        self.assertEqual(status, 0)
        self.assertIn("known failure: program.sh: not done yet", output)
        status, output = self.run_pair("exit 0", "--ledger", ledger)
        self.assertEqual(status, 1)
        self.assertIn("unexpected pass", output)

    def test_a_ledger_line_needs_a_reason(self):
        ledger = self.ledger("program.sh:\n")
        with self.assertRaises(SystemExit) as caught:
            self.run_pair("exit 0", "--ledger", ledger)
        self.assertIn("give the reason", str(caught.exception))

    def test_too_many_kernel_threads_are_told(self):
        script = (
            "exec %s -c 'import threading, time\n"
            "for _ in range(6): threading.Thread(target=time.sleep, args=(0.3,)).start()'"
            % sys.executable
        )
        self.assertEqual(self.run_pair(script, "--threads-max")[0], 0)
        status, output = self.run_pair(script, "--threads-max", "--no-pool")
        self.assertEqual(status, 1)
        self.assertIn("7 kernel threads seen, at most 3 allowed", output)

    def test_native_only_needs_no_library(self):
        status, output = self.run_pair("exit 0", "--repeat", "3", native_only=True)
        self.assertEqual(status, 0)
        self.assertIn("natively: exit status 0", output)

    def test_the_native_run_sees_no_trace_of_weft(self):
        os.environ["WEFT_TRACE"] = "park"
        try:
            status, _ = self.run_pair('test -z "$WEFT_TRACE$LD_PRELOAD"', native_only=True)
        finally:
            del os.environ["WEFT_TRACE"]
        self.assertEqual(status, 0)


if __name__ == "__main__":
    unittest.main()
