#!/usr/bin/python3
# xz.py - acceptance: `xz -T4` compresses and decompresses to the native bytes, also by pipe.
# SPDX-License-Identifier: Apache-2.0
import clients
import harness

XZ = "/usr/bin/xz"
CONTENT = (clients.pattern(200000, 3) + b"compressible " * 40000) * 8


def case(run):
  run.write("data", CONTENT)
  packed = run.call(XZ, "-T4", "--block-size=512KiB", "-1", "-k", "-c", "data", status=0)
  run.write("data.xz", packed.out)
  unpacked = run.call(XZ, "-T4", "-d", "-k", "-c", "data.xz", status=0)
  run.expect(unpacked.out == CONTENT, "the unpacked data differ from the original")
  piped = run.call("/bin/sh", "-c", "xz -T4 -1 --block-size=512KiB <data | xz -T4 -dc | cmp - data",
                   status=0)
  exists = run.call(XZ, "-T4", "-1", "data")
  run.native("/bin/rm", "data.xz")
  run.call(XZ, "-T4", "-1", "--block-size=512KiB", "data", status=0)
  run.native("/usr/bin/cmp", "data.xz", "program-0.out")
  run.write("broken.xz", packed.out[:-1000])
  broken = run.call(XZ, "-T4", "-d", "-k", "-c", "broken.xz")
  return {"packed": clients.sha256(packed.out), "piped": piped.err,
          "exists": (exists.status, exists.err), "broken": (broken.status, broken.err)}


harness.main("xz", case, needs=[XZ])
