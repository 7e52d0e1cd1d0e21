#!/usr/bin/python3
# sort.py - acceptance: `sort --parallel=4` orders 400000 lines as it does natively.
#
# In memory, and with a buffer so small that it merges temporary files, by number and by text.
# SPDX-License-Identifier: Apache-2.0
import random

import clients
import harness

SORT = "/usr/bin/sort"


def lines():
  numbers = list(range(400000))
  random.Random(5).shuffle(numbers)
  return "".join(f"{n} line {n % 1000}\n" for n in numbers).encode()


def case(run):
  run.write("data", lines())
  answers = {}
  for name, arguments in {
      "numbers": ("-n", "-S", "200M"),
      "merged": ("-n", "-S", "4M"),
      "words": ("-k3,3", "-k1,1n", "-S", "200M"),
      "unique": ("-u", "-k3,3n", "-S", "200M"),
  }.items():
    done = run.call(SORT, "--parallel=4", *arguments, "data", status=0)
    answers[name] = (clients.sha256(done.out), done.out.count(b"\n"), done.err)
  missing = run.call(SORT, "--parallel=4", "no-such-file")
  answers["missing"] = (missing.status, missing.err)
  return answers


harness.main("sort", case, needs=[SORT], native_threads=3)
