#!/usr/bin/env python3
# modes_test.py - WEFT_INTERCEPT=patch, audit and dispatch.
# The audit must name no system call of the distribution's programs, and must name each instruction
# that no patcher can see, with its address; dispatch must serve it. In every mode a program behaves
# as it does natively, and standard error stays the program's.
# Usage: modes_test.py LIBRARY PROGRAMS OTHER-PROGRAMS (support.py)
# SPDX-License-Identifier: Apache-2.0
import http.client
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import support

MODES = ("patch", "audit", "dispatch")
# Of tests/programs: threads, waits, signals, cancellation, children, calls of every kind.
SUBSET = ("thread_churn", "thread_keys", "semaphores", "cond_timeouts", "stdio_shared", "sleeps",
          "echo_threads", "signals_restart", "cancel_points", "fork_from_thread", "child_programs",
          "raw_syscalls", "cxx_exceptions")
PYTHON_PROGRAM = """
import hashlib, queue, subprocess, threading
results = queue.Queue()
def work(i):
  digest = hashlib.sha256(bytes([i]) * 100000).hexdigest()
  if i % 4 == 0:
    digest += subprocess.run(["echo", str(i)], stdout=subprocess.PIPE).stdout.decode()
  results.put((i, digest))
threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(results.get() for _ in threads))
"""


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def await_true(condition, what, process):
  """Polls a condition that a started server brings about; bounded."""
  end = time.monotonic() + 60
  while not condition():
    if process.poll() is not None or time.monotonic() > end:
      raise AssertionError("%s did not come true, status %s" % (what, process.poll()))
    time.sleep(0.02)


def answers_at(port):
  with socket.socket() as probe:
    return probe.connect_ex(("127.0.0.1", port)) == 0


class Greeting(http.server.BaseHTTPRequestHandler):

  def do_GET(self):
    self.send_response(200)
    self.send_header("Content-Length", "5")
    self.end_headers()
    self.wfile.write(b"hello")

  def log_message(self, *_):
    pass


class Modes(support.Case):

  def compare_in(self, mode, *command):
    native = self.natively(*command)
    self.assertEqual(native.status, 0, native.stderr)
    other = self.under_weft(*command, variables={"WEFT_INTERCEPT": mode})
    self.assert_same(native, other)

  def test_programs_behave_the_same(self):
    for name in SUBSET:
      program = self.other_program(name)
      for mode in MODES:
        with self.subTest(program=name, mode=mode):
          self.compare_in(mode, program)

  def test_python_behaves_the_same(self):
    for mode in MODES:
      with self.subTest(mode=mode):
        self.compare_in(mode, support.PYTHON, "-c", PYTHON_PROGRAM)

  def test_xz_and_sort_behave_the_same(self):
    text = os.path.join(self.folder, "text")
    with open(text, "w", encoding="ascii") as file:
      for i in range(400000):
        file.write("%d line %d\n" % (i * 7919 % 400009, i))
    for mode in ("audit", "dispatch"):
      for line in ("xz -T4 -1 --block-size=1MiB -c text | xz -dc | cksum",
                   "sort --parallel=4 -S 2M -n text | cksum"):
        with self.subTest(mode=mode, line=line):
          self.compare_in(mode, "sh", "-c", line)

  def test_audit_names_code_made_at_run_time(self):
    result = self.under_weft(self.program("raw_code"), "short",
                             variables={"WEFT_INTERCEPT": "audit"})
    self.assertEqual((result.status, result.stdout), (0, "ok raw_errors_are_the_kernels\n"))
    lines = result.stderr.splitlines()
    self.assertEqual(len(lines), 1, result.stderr)
    # The instruction is the sixteenth byte of the page.
    self.assertRegex(lines[0], r"^weft: audit: read \(system call 0\) is not a patched site, "
                               r"at 0x[0-9a-f]+00f in memory without a file$")

  def test_other_modes_name_nothing(self):
    for mode in ("patch", "dispatch"):
      result = self.under_weft(self.program("raw_code"), "short",
                               variables={"WEFT_INTERCEPT": mode})
      self.assertEqual((result.status, result.stdout, result.stderr),
                       (0, "ok raw_errors_are_the_kernels\n", ""))

  def serve(self, mode, *command):
    """Starts a server under weft; its outputs go to the file `log`."""
    log = open(os.path.join(self.folder, "log"), "w+", encoding="utf-8", errors="replace")
    self.addCleanup(log.close)
    process = subprocess.Popen(command, env=self.weft_environment(WEFT_INTERCEPT=mode),
                               cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               start_new_session=True)
    self.addCleanup(self.end, process)
    return process, log

  @staticmethod
  def end(process):
    if process.poll() is None:
      process.kill()
    process.wait()

  def stop(self, process, log):
    """Ends a server by SIGTERM; returns what it said."""
    process.send_signal(signal.SIGTERM)
    self.assertEqual(process.wait(60), 0)
    log.seek(0)
    return log.read()

  def test_audit_names_nothing_in_tinyproxy(self):
    if not shutil.which("tinyproxy"):
      self.skipTest("tinyproxy is not installed")
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greeting)
    thread = threading.Thread(target=origin.serve_forever, daemon=True)
    thread.start()
    self.addCleanup(origin.server_close)
    self.addCleanup(thread.join)
    self.addCleanup(origin.shutdown)
    port = free_port()
    config = os.path.join(self.folder, "tinyproxy.conf")
    with open(config, "w", encoding="ascii") as file:
      file.write('Port %d\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nLogLevel Error\n'
                 'LogFile "%s/tinyproxy.log"\n' % (port, self.folder))
    process, log = self.serve("audit", shutil.which("tinyproxy"), "-d", "-c", config)
    await_true(lambda: answers_at(port), "an open port", process)
    for _ in range(20):
      client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
      client.request("GET", "http://127.0.0.1:%d/" % origin.server_port)
      answer = client.getresponse()
      self.assertEqual((answer.status, answer.read()), (200, b"hello"))
      client.close()
    self.assertEqual(re.findall(r"^weft: .*$", self.stop(process, log), re.M), [])

  def test_audit_names_nothing_in_mariadb(self):
    server = shutil.which("mariadbd", path="/usr/sbin:/usr/bin")
    installer = shutil.which("mariadb-install-db")
    if not server or not installer or os.geteuid() != 0:
      self.skipTest("needs mariadb-server and the right to run it")
    data = os.path.join(self.folder, "data")
    made = self.natively(installer, "--no-defaults", "--user=root", "--datadir=" + data,
                         "--skip-test-db", "--auth-root-authentication-method=normal")
    self.assertEqual(made.status, 0, made.stdout + made.stderr)
    address = os.path.join(self.folder, "socket")
    process, log = self.serve(
        "audit", server, "--no-defaults", "--user=root", "--datadir=" + data,
        "--socket=" + address, "--skip-networking", "--innodb-buffer-pool-size=16M",
        "--pid-file=" + os.path.join(self.folder, "pid"))
    await_true(lambda: os.path.exists(address), "the server's socket", process)
    for i in range(5):
      answer = self.natively("mariadb", "--no-defaults", "-uroot", "-S", address, "-N", "-e",
                             "CREATE DATABASE IF NOT EXISTS d; CREATE OR REPLACE TABLE d.t (i INT);"
                             "INSERT INTO d.t VALUES (%d), (1); SELECT SUM(i) FROM d.t;" % i)
      self.assertEqual((answer.status, answer.stdout), (0, "%d\n" % (i + 1)), answer.stderr)
    self.assertEqual(re.findall(r"^weft: .*$", self.stop(process, log), re.M), [])


if __name__ == "__main__":
  support.main()
