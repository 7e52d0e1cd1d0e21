#!/usr/bin/python3
# fio.py - acceptance: fio with 64 threads of psync, every block verified by crc32c.
#
# Writes at random, reads back and verifies; then a mix of reads and writes with fsync. Files go
# through the page cache in the work directory. Numbers of operations and bytes are compared.
# SPDX-License-Identifier: Apache-2.0
import json

import harness

FIO = "/usr/bin/fio"
JOBS = 64


def job(run, name, *arguments):
  """Runs one job of 64 threads; returns (errors, reads, writes, bytes read, bytes written)."""
  # Not of the job's name: fio would take an existing path of that name for its one file.
  directory = run.path("files-" + name)
  run.native("/bin/mkdir", directory)
  report = run.call(FIO, f"--name={name}", f"--directory={directory}", "--thread",
                    "--ioengine=psync", f"--numjobs={JOBS}", "--bs=4k", "--size=512k",
                    "--group_reporting", "--output-format=json", "--eta=never", "--randseed=42",
                    "--thinktime=2ms", "--thinktime_blocks=32", *arguments, status=0, seconds=60)
  job_report = json.loads(report.out)["jobs"][0]
  return (job_report["error"], job_report["read"]["total_ios"], job_report["write"]["total_ios"],
          job_report["read"]["io_bytes"], job_report["write"]["io_bytes"], report.err)


def case(run):
  return {
      "verified": job(run, "verified", "--rw=randwrite", "--verify=crc32c", "--verify_fatal=1",
                      "--do_verify=1"),
      "mixed": job(run, "mixed", "--rw=randrw", "--fsync=32"),
  }


# 64 threads in file calls and fsync at once may fill the pool: it is what the pool is for.
harness.main("fio", case, needs=[FIO], pool=128, native_threads=JOBS // 2, seconds=120)
