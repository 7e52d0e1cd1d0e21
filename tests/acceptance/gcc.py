#!/usr/bin/python3
# gcc.py - acceptance, do no harm: compile, link and run a threaded C program.
#
# The object file is compared byte for byte; a broken source must give the native complaint.
# SPDX-License-Identifier: Apache-2.0
import clients
import harness

GCC = "/usr/bin/gcc"
SOURCE = r"""
#include <pthread.h>
#include <stdio.h>
static void* twice(void* value) { return (void*)((long)value * 2); }
int main(void) {
  pthread_t threads[50];
  long sum = 0;
  for (long i = 0; i < 50; i++)
    if (pthread_create(&threads[i], 0, twice, (void*)i)) return 1;
  for (int i = 0; i < 50; i++) {
    void* value;
    if (pthread_join(threads[i], &value)) return 1;
    sum += (long)value;
  }
  printf("sum %ld\n", sum);
  return 3;
}
"""


def case(run):
  run.write("sum.c", SOURCE)
  run.write("broken.c", SOURCE.replace("return 3;", "return missing;"))
  run.call(GCC, "-O2", "-pipe", "-Wall", "-c", "sum.c", "-o", "sum.o", status=0)
  run.call(GCC, "sum.o", "-o", "sum", "-lpthread", status=0)
  broken = run.call(GCC, "-c", "broken.c")
  ran = run.call(run.path("sum"))
  with open(run.path("sum.o"), "rb") as file:
    return {"object": clients.sha256(file.read()), "ran": (ran.status, ran.out, ran.err),
            "broken": (broken.status, broken.err)}


harness.main("gcc", case, needs=[GCC])
