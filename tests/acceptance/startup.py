#!/usr/bin/python3
# startup.py - acceptance, do no harm: what preloading costs a program that starts no thread.
#
# Prints the median of 50 runs of /bin/true each way, interleaved. The goal is 1 ms added; only
# 20 ms, a gross harm whatever the machine is doing, is a failure.
# SPDX-License-Identifier: Apache-2.0
import statistics
import subprocess
import time

import harness

RUNS = 50
GOAL_MS, LIMIT_MS = 1, 20


def once_ms(environment):
  begin = time.perf_counter()
  status = subprocess.run(["/bin/true"], env=environment, check=False).returncode
  took = (time.perf_counter() - begin) * 1000
  if status != 0:
    raise harness.Failure(f"/bin/true ended with {status}")
  return took


def case(run):
  environments = (run.environment(native=True), run.environment())
  for environment in environments:
    once_ms(environment)
  times = [[once_ms(e) for e in environments] for _ in range(RUNS)]
  native, here = (statistics.median(column) for column in zip(*times))
  added = here - native
  print(f"  {run.label}: /bin/true takes {native:.2f} ms natively, {here:.2f} ms here: "
        f"{added:+.2f} ms ({'within' if added <= GOAL_MS else 'misses'} the goal of {GOAL_MS} ms)")
  run.expect(added <= LIMIT_MS, f"{added:.1f} ms were added to the start of /bin/true")
  return {}


harness.main("startup", case)
