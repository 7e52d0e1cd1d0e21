# command.py - what the two tests of the `weft` command share: running it, with a bound on time.
# Usage of a test: NAME_test.py WEFT STAND_IN, the built command and the library in libweft.so's
# place.
# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

SECONDS_MAX = 60


class CommandTest(unittest.TestCase):
    """A folder that vanishes after the test, and the command with a clean WEFT_* environment."""

    weft = ""
    stand_in = ""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="weft-cli-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content, mode=0o644):
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(path, mode)
        return path

    def environment(self, **changes):
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith("WEFT_") and name != "LD_PRELOAD"}
        return {**clean, "WEFT_LIBRARY": self.stand_in, **changes}

    def command(self, *words, weft=None, **environment):
        """Runs `weft WORDS` to its end; answers status, standard output, standard error."""
        done = subprocess.run([weft or self.weft, *words], env=self.environment(**environment),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=SECONDS_MAX, check=False)
        return done.returncode, done.stdout, done.stderr

    def compile(self, name, source, *flags):
        path = self.path(name)
        subprocess.run(["gcc", "-x", "c", "-", "-o", path, *flags], input=source, text=True,
                       check=True, timeout=SECONDS_MAX)
        return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    CommandTest.stand_in = os.path.abspath(sys.argv.pop(2))
    CommandTest.weft = os.path.abspath(sys.argv.pop(1))
    unittest.main(module="__main__", verbosity=2)
