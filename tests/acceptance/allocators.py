#!/usr/bin/python3
# allocators.py - acceptance: programs with jemalloc or tcmalloc preloaded before libweft.so.
#
# A foreign malloc takes its own locks and maps its own memory: weft must serve both. Runs the
# allocation guest, `xz -T4`, `sort --parallel` and Python with threads; with --programs DIR, also
# a handful of the small test programs. Native passes preload the same allocator.
# SPDX-License-Identifier: Apache-2.0
import os

import clients
import harness

ALLOCATORS = {name: f"/usr/lib/x86_64-linux-gnu/{name}"
              for name in ("libjemalloc.so.2", "libtcmalloc_minimal.so.4")}
GUEST = os.path.join(harness.HERE, "guests", "allocation_guest.c")
# Of the test programs, those that allocate, churn threads, or free at a thread's end.
PROGRAMS = ("thread_churn", "thread_keys", "thread_locals", "producer_consumer", "stdio_shared",
            "cxx_futures", "cxx_exceptions", "mutex_kinds")
PYTHON_SCRIPT = """
import concurrent.futures, hashlib, json
def work(n):
  return hashlib.sha256(json.dumps([list(range(k)) for k in range(n)]).encode()).hexdigest()
with concurrent.futures.ThreadPoolExecutor(40) as pool:
  print(hashlib.sha256("".join(pool.map(work, [50] * 20 + list(range(100)))).encode()).hexdigest())
"""
guest = {}


def prepare(run):
  guest["path"] = run.path("allocation_guest")
  run.native("/usr/bin/gcc", "-O2", "-Wall", "-pthread", GUEST, "-o", guest["path"])
  run.write("lines", "".join(f"{n * 7919 % 300007}\n" for n in range(300000)))
  guest["lines"] = run.path("lines")


def commands(programs):
  """{name: argv} of everything to be run with each allocator."""
  table = {
      "guest": (guest["path"],),
      "python": ("/usr/bin/python3", "-c", PYTHON_SCRIPT),
      "sort": ("/usr/bin/sort", "-n", "--parallel=4", "-S", "200M", guest["lines"]),
      "xz": ("/usr/bin/xz", "-T4", "-1", "--block-size=256KiB", "-c", guest["lines"]),
  }
  if programs:
    table.update({name: (os.path.join(programs, name),) for name in PROGRAMS})
  return table


def case(run):
  answers = {}
  programs = run.options.programs and os.path.abspath(run.options.programs)
  for allocator, library in ALLOCATORS.items():
    for name, argv in commands(programs).items():
      done = run.call(*argv, preload=[library])
      run.expect(done.status == 0 or name in PROGRAMS,
                 f"{name} with {allocator} ended with {done.status}: {done.complaint()}")
      answers[f"{name}, {allocator}"] = (done.status, clients.sha256(done.out), done.err)
  return answers


harness.main("allocators", case, needs=["/usr/bin/gcc", *ALLOCATORS.values()], prepare=prepare,
             native_threads=40, seconds=120)
