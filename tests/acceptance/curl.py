#!/usr/bin/python3
# curl.py - acceptance, do no harm: downloads, parallel downloads, failures.
#
# curl resolves names in a thread, so this one starts threads. The server is a native nginx.
# SPDX-License-Identifier: Apache-2.0
import clients
import harness

CURL = "/usr/bin/curl"
FILES = {"small": clients.pattern(1000, 7), "big": clients.pattern(5 << 20, 8)}
backend = {}


def prepare(run):
  backend["port"] = clients.start_file_server(run, FILES)


def case(run):
  site = f"http://localhost:{backend['port']}"
  answers = {}
  for name, arguments in {
      "big": (f"{site}/big",),
      "by address": (f"http://127.0.0.1:{backend['port']}/small",),
      "range": ("-r", "100-199", f"{site}/big"),
      "twice": (f"{site}/small", f"{site}/small"),
      "missing": ("-f", f"{site}/missing"),
      "refused": ("http://127.0.0.1:1/",),
      "no such host": ("http://no-such-host.invalid/",),
      "limited": ("--limit-rate", "2M", "--max-time", "20", f"{site}/small"),
  }.items():
    done = run.call(CURL, "-sS", "-4", *arguments)
    # How long a refused connect took is part of curl's message.
    answers[name] = (done.status, clients.sha256(done.out), done.err.split(b" after ")[0])
  many = [word for i in range(20) for word in (f"{site}/big", "-o", f"copy-{i}")]
  run.call(CURL, "-sS", "-Z", "--parallel-max", "10", *many, status=0)
  for number in range(20):
    with open(run.path(f"copy-{number}"), "rb") as file:
      run.expect(file.read() == FILES["big"], f"copy-{number} differs from the original")
  return answers


harness.main("curl", case, needs=[CURL, clients.NGINX], prepare=prepare)
