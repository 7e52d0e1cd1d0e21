#!/usr/bin/python3
# iperf.py - acceptance: iperf 2, server and client, with 32 parallel streams each way.
#
# Each phase has its own server: forwards and reversed (-R) with a fixed number of bytes a stream,
# whose reports are compared; then timed, both directions on each stream (--full-duplex). Thread
# per stream, a reporter, a listener. Ended by SIGTERM, which iperf may want twice.
# Debian's iperf 2.1.8 itself fails natively in some runs (measured: 1 in 15 forwards, 1 in 3
# reversed): when many streams end at once, the server uses a sum report and its mutex after they
# were freed. So a phase has five attempts, natively and under weft alike; all failing is a FAIL.
# SPDX-License-Identifier: Apache-2.0
import re
import signal

import harness
from process import free_port

IPERF = "/usr/bin/iperf"
STREAMS = 32
ATTEMPTS = 5


def amounts(program):
  """What a report says was moved: {amount: number of lines}, without times and rates."""
  counts = {}
  for amount in re.findall(r"\d sec +([0-9.]+ [KMG]?Bytes)", program.out.decode()):
    counts[amount] = counts.get(amount, 0) + 1
  return counts


def fixed(run, client):
  """Every stream moved its 8 MiB, and the sum line says 256."""
  moved = amounts(client)
  run.expect(moved == {"8.00 MBytes": STREAMS, "256 MBytes": 1}, f"wrong report: {moved}")
  return moved


def timed(run, client):
  """Each stream reports some bytes in both directions."""
  streams = set(re.findall(r"^\[[ *]*(\d+)\] local .* connected with", client.out.decode(), re.M))
  busy = len(re.findall(r"\d sec +[0-9.]+ [KMG]Bytes", client.out.decode()))
  run.expect(len(streams) == STREAMS and busy >= 2 * STREAMS,
             f"{len(streams)} streams, {busy} reports of bytes")
  return len(streams)


PHASES = {
    "forwards": (fixed, ("-n", "8M")),
    "reversed": (fixed, ("-n", "8M", "-R")),
    "both at once": (timed, ("-t", "1", "--full-duplex")),
}


def attempt(run, judge, arguments):
  port = free_port()
  server = run.start(IPERF, "-s", "-B", "127.0.0.1", "-p", port)
  try:
    server.wait_port(port)
    client = run.call(IPERF, "-c", "127.0.0.1", "-p", port, "-P", STREAMS, *arguments, status=0,
                      seconds=10)
    answer = judge(run, client)
    server.check_mapped()
    signal.pidfd_send_signal(server.pidfd, signal.SIGTERM)
    if not server.ended(2):
      server.stop(signal.SIGTERM, seconds=5)
    return answer
  finally:
    server.end()


def case(run):
  answers = {}
  for name, (judge, arguments) in PHASES.items():
    for number in range(1, ATTEMPTS + 1):
      try:
        answers[name] = attempt(run, judge, arguments)
        break
      except (harness.Failure, OSError) as error:
        print(f"  {run.label}: {name}, attempt {number}: {str(error)[:200]}")
    run.expect(name in answers, f"{name}: all {ATTEMPTS} attempts failed")
  return answers


harness.main("iperf", case, needs=[IPERF], native_threads=STREAMS, seconds=120)
