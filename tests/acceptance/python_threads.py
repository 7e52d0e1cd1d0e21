#!/usr/bin/python3
# python_threads.py - acceptance: ThreadPoolExecutor, threading, queue, subprocess in one guest.
#
# The guest checks every result itself and prints lines without times: the output is compared
# byte for byte. It keeps 100 threads blocked at once.
# SPDX-License-Identifier: Apache-2.0
import os

import harness

PYTHON = "/usr/bin/python3"
GUEST = os.path.join(harness.HERE, "guests", "threads_guest.py")


def case(run):
  guest = run.call(PYTHON, "-B", GUEST, status=0, seconds=100)
  return {"output": guest.out, "errors": guest.err}


# Dozens of threads wait for children, files and names at once, which the pool may have to run.
harness.main("python_threads", case, needs=[PYTHON], pool=64, native_threads=60, seconds=110)
