#!/usr/bin/python3
# ssh_keygen.py - acceptance, do no harm: make a key, sign and verify with it.
#
# An ed25519 signature is deterministic: one key, made natively, signs to the same bytes.
# SPDX-License-Identifier: Apache-2.0
import harness

KEYGEN = "/usr/bin/ssh-keygen"
shared = {}


def prepare(run):
  run.native(KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", "weft", "-f", run.path("key"))
  shared["key"] = run.path("key")


def case(run):
  for kind in ("ed25519", "ecdsa", "rsa"):
    run.call(KEYGEN, "-q", "-t", kind, "-N", "", "-C", kind, "-f", f"new-{kind}", status=0)
    run.call(KEYGEN, "-l", "-f", f"new-{kind}.pub", status=0)
  run.write("text", "sign this\n")
  run.call(KEYGEN, "-Y", "sign", "-n", "file", "-f", shared["key"], "text", status=0)
  with open(run.path("text.sig"), "rb") as file:
    answers = {"signature": file.read()}
  public = run.call(KEYGEN, "-y", "-f", shared["key"], status=0).out
  run.write("allowed", b"weft " + public)
  for name, text in {"verified": "text", "forged": "allowed"}.items():
    done = run.call(KEYGEN, "-Y", "verify", "-n", "file", "-I", "weft", "-f", "allowed", "-s",
                    "text.sig", stdin=run.path(text))
    answers[name] = (done.status, done.out, done.err)
  answers["public"] = public
  return answers


harness.main("ssh_keygen", case, needs=[KEYGEN], prepare=prepare)
