#!/usr/bin/python3
# zstd.py - acceptance: `zstd -T4` compresses and decompresses to the native bytes, also by pipe.
# SPDX-License-Identifier: Apache-2.0
import clients
import harness

ZSTD = "/usr/bin/zstd"
CONTENT = (clients.pattern(300000, 4) + b"compressible " * 60000) * 16


def case(run):
  run.write("data", CONTENT)
  packed = run.call(ZSTD, "-q", "-T4", "-B1MiB", "-6", "-c", "data", status=0)
  run.write("data.zst", packed.out)
  unpacked = run.call(ZSTD, "-q", "-d", "-c", "data.zst", status=0)
  run.expect(unpacked.out == CONTENT, "the unpacked data differ from the original")
  piped = run.call("/bin/sh", "-c", "zstd -q -T4 -3 <data | zstd -q -d | cmp - data", status=0)
  run.write("broken.zst", packed.out[:-1000])
  broken = run.call(ZSTD, "-q", "-d", "-c", "broken.zst")
  return {"packed": clients.sha256(packed.out), "piped": piped.err,
          "broken": (broken.status, broken.err)}


harness.main("zstd", case, needs=[ZSTD])
