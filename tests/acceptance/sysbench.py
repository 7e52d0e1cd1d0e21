#!/usr/bin/python3
# sysbench.py - acceptance, slow: sysbench itself, 64 threads of LuaJIT, against native mariadbd.
#
# A database run bounded by events, whose counts are compared; then sysbench's own tests of
# mutexes, threads, memory, files and processor, and a rate-limited run, which needs timers.
# SPDX-License-Identifier: Apache-2.0
import os
import re

import harness
from process import free_port

SYSBENCH, MARIADBD, MARIADB = "/usr/bin/sysbench", "/usr/sbin/mariadbd", "/usr/bin/mariadb"
INSTALL = "/usr/bin/mariadb-install-db"
THREADS = 64
backend = {}


def prepare(run):
  user = ["--user=root"] if os.getuid() == 0 else []
  run.native(INSTALL, "--no-defaults", *user, f"--datadir={run.path('data')}", "--skip-test-db",
             "--auth-root-authentication-method=normal")
  port = free_port()
  backend["socket"] = run.path("mariadb.sock")
  server = run.start(MARIADBD, "--no-defaults", *user, f"--datadir={run.path('data')}",
                     f"--socket={backend['socket']}", f"--port={port}",
                     "--bind-address=127.0.0.1", f"--pid-file={run.path('pid')}", native=True)
  server.wait_port(port, 40)
  server.wait_until(lambda: b"ready for connections" in server.err, "ready", 40)


def database(run, command, threads, events):
  return run.call(SYSBENCH, "--db-driver=mysql", f"--mysql-socket={backend['socket']}",
                  "--mysql-user=root", "--mysql-db=sbtest", "--tables=2", "--table-size=2000",
                  f"--threads={threads}", f"--events={events}", "--time=0",
                  "--report-interval=1", "oltp_point_select", command, status=0, seconds=60)


def number(pattern, program):
  found = re.search(pattern, program.out.decode())
  if not found:
    raise harness.Failure(f"no `{pattern}` in the report: {program.complaint()}")
  return int(found.group(1))


def case(run):
  run.native(MARIADB, "--no-defaults", "-uroot", "-S", backend["socket"], "-e",
             "CREATE OR REPLACE DATABASE sbtest")
  database(run, "prepare", 2, 0)
  selects = database(run, "run", THREADS, 20000)
  answers = {"selects": number(r"read: +(\d+)", selects),
             "transactions": number(r"transactions: +(\d+)", selects),
             "ignored errors": number(r"ignored errors: +(\d+)", selects)}
  for name, arguments in {
      "mutex": ("mutex", "--mutex-num=16", "--mutex-locks=2000", "--mutex-loops=100"),
      "threads": ("threads", "--events=2000", "--thread-yields=50", "--thread-locks=4"),
      "memory": ("memory", "--memory-total-size=256M", "--memory-block-size=64K"),
      "cpu": ("cpu", "--events=2000", "--cpu-max-prime=1000"),
  }.items():
    done = run.call(SYSBENCH, f"--threads={THREADS}", "--time=0", *arguments, "run", status=0)
    answers[name] = number(r"total number of events: +(\d+)", done)
  files = ("fileio", "--file-total-size=8M", "--file-num=16", "--file-test-mode=rndrw")
  for command in ("prepare", "run", "cleanup"):
    done = run.call(SYSBENCH, "--threads=16", "--events=2000", "--time=0", *files, command,
                    status=0)
    answers[f"files {command}"] = done.status
  rated = run.call(SYSBENCH, "--threads=8", "--time=2", "--events=0", "--rate=500", "cpu",
                   "--cpu-max-prime=500", "run", status=0)
  events = number(r"total number of events: +(\d+)", rated)
  run.expect(700 <= events <= 1300, f"--rate=500 for 2 seconds made {events} events")
  return answers


harness.main("sysbench", case, needs=[SYSBENCH, MARIADBD, MARIADB, INSTALL], prepare=prepare,
             pool=32, native_threads=THREADS, seconds=120)
