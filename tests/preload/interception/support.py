# support.py - what the Python tests of this folder share: running a program under weft.
# Guarantee: every run has an environment made from nothing, a bound on its time and a folder that
# goes away; what it leaves running is ended by its own process group.
# Tests call main(), with the arguments LIBRARY FOLDER-OF-THE-PROGRAMS FOLDER-OF-TESTS/PROGRAMS.
# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

BOUND_SECONDS = 120
PYTHON = "/usr/bin/python3"  # the distribution's, dynamic


class Result:
  """How a run ended: status as subprocess has it, and both outputs as text."""

  def __init__(self, status, stdout, stderr):
    self.status = status
    self.stdout = stdout
    self.stderr = stderr

  def weft_lines(self):
    return [line for line in self.stderr.splitlines() if line.startswith("weft: ")]


class Case(unittest.TestCase):
  """A test with a folder of its own, and the means to run programs."""

  library = ""
  programs = ""
  other_programs = ""

  def setUp(self):
    self.folder = tempfile.mkdtemp(prefix="weft-interception-")
    os.chmod(self.folder, 0o755)
    self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

  def program(self, name):
    return os.path.join(self.programs, name)

  def other_program(self, name):
    """A program of tests/programs; the test is skipped if that folder is not built."""
    path = os.path.join(self.other_programs, name)
    if not os.path.exists(path):
      self.skipTest(path + " is not built")
    return path

  def environment(self, **more):
    return dict({
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": self.folder,
        "TMPDIR": self.folder,
        "LC_ALL": "C",
        "TZ": "UTC0",
    }, **more)

  def weft_environment(self, **more):
    return self.environment(**dict({"LD_PRELOAD": self.library, "WEFT_WORKERS": "2"}, **more))

  def run_in(self, environment, *command, **options):
    with subprocess.Popen(command, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True, **options) as process:
      try:
        stdout, stderr = process.communicate(timeout=BOUND_SECONDS)
      except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        self.fail("%s did not end within %d s\n%s%s" % (command, BOUND_SECONDS, stdout, stderr))
      return Result(process.returncode, stdout, stderr)

  def natively(self, *command, **options):
    return self.run_in(self.environment(), *command, **options)

  def under_weft(self, *command, variables=None, **options):
    return self.run_in(self.weft_environment(**(variables or {})), *command, **options)

  def assert_same(self, native, other):
    self.assertEqual((other.status, other.stdout, other.stderr),
                     (native.status, native.stdout, native.stderr))


def main():
  Case.library, Case.programs, Case.other_programs = map(os.path.abspath, sys.argv[1:4])
  unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
