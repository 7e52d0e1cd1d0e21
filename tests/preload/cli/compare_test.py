#!/usr/bin/python3
# compare_test.py - `weft compare` with fake servers and loads: rounds, order, figures, table, JSON,
# and each way to fail. Usage: compare_test.py WEFT STAND_IN.
# Method: the fake server says which side it is, and the fake load prints the figures of that side,
# so every ratio is known beforehand.
# SPDX-License-Identifier: Apache-2.0
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import command

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER = os.path.join(HERE, "fake_server.py")
ASK = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:
    if sys.argv[2:]:
        server.sendall(b"die\\n")
    side = server.makefile().readline().strip()
factor = {"native": 1, "weft": 2}[side]
print(f"reqs=5 rps={1000 * factor} p50_us={80 // factor} p99_us={400 // factor}")
print(f"side {side} score={3 * factor}")
"""


def wait_until(condition, what):
    deadline = time.monotonic() + command.SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {command.SECONDS_MAX} s")
        time.sleep(0.01)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Compare(command.CommandTest):
    def setUp(self):
        super().setUp()
        self.port = command.free_port()
        self.pid_file = self.path("pid")
        self.ask = self.write("ask.py", ASK)

    def words(self, *options, load=None, fault="", ready=None, server=None):
        load = load or f"{sys.executable} {self.ask} {self.port}"
        server = server or [SERVER, str(self.port), fault]
        ready = ready or f"tcp:{self.port}"
        return ["compare", "--ready", ready, "--load", load, *options, "--", *server]

    def compare(self, *options, **parts):
        return self.command(*self.words(*options, **parts), PID_FILE=self.pid_file)

    def figures(self, *options, **parts):
        """The JSON object, and its figures by name."""
        status, out, err = self.compare("--json", *options, **parts)
        self.assertEqual(status, 0, err)
        report = json.loads(out)
        return report, {figure["name"]: figure for figure in report["figures"]}

    def server_pid(self):
        with open(self.pid_file) as file:
            return int(file.read())

    def check_failure(self, message, *options, **parts):
        """Exit 1, this message, and no server left."""
        status, out, err = self.compare("--rounds", "1", *options, **parts)
        self.assertEqual((status, out), (1, ""), err)
        said = err[err.index("weft: round 1, "):]
        self.assertRegex(said, message)
        if os.path.exists(self.pid_file):
            self.assertFalse(alive(self.server_pid()))


class Results(Compare):
    def test_json(self):
        report, figures = self.figures("--rounds", "3")
        self.assertEqual(report["rounds"], 3)
        self.assertEqual(report["load"], f"{sys.executable} {self.ask} {self.port}")
        self.assertEqual(report["notes"], [])
        self.assertEqual(len(report["load_average"]), 3)
        self.assertEqual(figures["rps"], {
            "name": "rps", "label": "requests/s", "better": "higher",
            "native": {"median": 1000, "values": [1000, 1000, 1000]},
            "weft": {"median": 2000, "values": [2000, 2000, 2000]},
            "ratio": {"median": 2, "min": 2, "max": 2}})
        self.assertEqual(figures["p99_us"]["ratio"], {"median": 0.5, "min": 0.5, "max": 0.5})
        self.assertEqual(figures["p50_us"]["better"], "lower")
        # The main thread and the one that accepts.
        self.assertEqual(figures["threads"]["native"]["values"], [2, 2, 2])
        self.assertGreater(figures["rss_kb"]["native"]["median"], 1000)
        self.assertGreater(figures["context_switches"]["native"]["median"], 0)
        self.assertIn("cpu_us_per_request", figures)

    def test_table(self):
        status, out, err = self.compare("--rounds", "2")
        self.assertEqual(status, 0, err)
        head = out.splitlines()
        self.assertTrue(head[0].startswith(f"server  {SERVER} {self.port}"), head)
        self.assertTrue(head[1].startswith("load    "), head)
        self.assertRegex(head[2], r"^rounds  2, .* load average at the start( \d+\.\d\d){3}$")
        self.assertRegex(out, r"\nrequests/s +1,000 +2,000 +2\.00 +2\.00-2\.00 +\|\+{4}\n")
        self.assertRegex(out, r"\np99 latency +400 us +200 us +0\.50 +0\.50-0\.50 +\+{4}\|\n")
        for label in ("CPU time", "kernel threads", "resident memory", "context switches"):
            self.assertIn(f"\n{label} ", out)
        # The order alternates; each run says one line.
        self.assertEqual(re.findall(r"weft: round (\d) of 2, (\w+): [\d,]+ requests/s\n", err),
                         [("1", "native"), ("1", "weft"), ("2", "weft"), ("2", "native")])

    def test_figure(self):
        _, figures = self.figures("--rounds", "1", "--figure", r"score=(\d+)")
        self.assertEqual(figures["figure"]["native"]["values"], [3])
        self.assertEqual(figures["figure"]["ratio"]["median"], 2)
        self.assertIn("rps", figures)

    def test_load_without_figures_is_timed(self):
        _, figures = self.figures("--rounds", "1", load="sleep 0.3")
        self.assertGreaterEqual(figures["load_s"]["native"]["median"], 0.3)
        self.assertNotIn("cpu_us_per_request", figures)

    def test_cpu_time_is_the_servers(self):
        # While the load waits, the server burns CPU time: about as much as time passes.
        burn = "import socket, sys\n" \
               "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n" \
               "while True: pass\n"
        server = [sys.executable, self.write("burn.py", burn), str(self.port)]
        _, figures = self.figures("--rounds", "1", load="sleep 0.5", server=server)
        self.assertGreater(figures["cpu_s"]["native"]["median"], 0.1)
        self.assertLess(figures["cpu_s"]["native"]["median"], 0.8)
        _, idle = self.figures("--rounds", "1", load="timeout 0.5 sh -c 'while :; do :; done' || :")
        self.assertLess(idle["cpu_s"]["native"]["median"], 0.1)

    def test_every_process_of_the_server_counts(self):
        _, figures = self.figures("--rounds", "1", fault="crowd")
        self.assertEqual(figures["threads"]["native"]["values"], [12])

    def test_unix_socket(self):
        path = self.path("socket")
        _, figures = self.figures("--rounds", "1", load="echo rps=5", ready=f"unix:{path}",
                                  server=[SERVER, path])
        self.assertEqual(figures["rps"]["weft"]["values"], [5])

    def test_daemon(self):
        report, figures = self.figures("--rounds", "1", fault="daemon")
        self.assertEqual(figures["rps"]["ratio"]["median"], 2)
        self.assertEqual(report["notes"], [])
        self.assertFalse(alive(self.server_pid()))

    def test_notes(self):
        report, _ = self.figures("--rounds", "2", fault="says")
        self.assertEqual(report["notes"], ["weft: this machine is slow"])
        report, _ = self.figures("--rounds", "1", fault="crashes")
        crash = "the server was killed by signal 11 (Segmentation fault)"
        self.assertEqual(report["notes"], [f"native: {crash}", f"weft: {crash}"])

    def test_server_that_ignores_sigterm_is_killed(self):
        report, _ = self.figures("--rounds", "1", "--stop-seconds", "1", fault="deaf")
        killed = "the server had to be killed: SIGTERM did not end it"
        self.assertEqual(report["notes"], [f"native: {killed}", f"weft: {killed}"])
        self.assertFalse(alive(self.server_pid()))

    def test_warm_up_is_not_measured(self):
        count = self.path("count")
        load = f"echo x >> {count}; echo rps=$(wc -l < {count})"
        _, figures = self.figures("--rounds", "1", "--warmup-seconds", "5", load=load)
        # Each side: once to warm up, once to measure.
        self.assertEqual(figures["rps"]["native"]["values"], [2])
        self.assertEqual(figures["rps"]["weft"]["values"], [4])

    def test_pinning(self):
        cpu = str(min(os.sched_getaffinity(0)))
        script = "import os, socket, sys, time\n" \
                 "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n" \
                 "open(sys.argv[2], 'w').write(str(os.sched_getaffinity(0)))\n" \
                 "time.sleep(600)\n"
        server = [sys.executable, self.write("pinned.py", script), str(self.port),
                  self.path("server_cpus")]
        load = f"taskset -p $$ > {self.path('load_cpus')}; echo rps=1"
        self.figures("--rounds", "1", "--pin-server", cpu, "--pin-load", cpu, load=load,
                     server=server)
        with open(self.path("server_cpus")) as file:
            self.assertEqual(file.read(), "{" + cpu + "}")
        with open(self.path("load_cpus")) as file:
            self.assertEqual(int(file.read().split()[-1], 16), 1 << int(cpu))


class Failures(Compare):
    def test_load_fails(self):
        self.check_failure(r"^weft: round 1, native: the load command exited with status 3; "
                           r"its last lines:\n  no route\n  to the moon\n$",
                           load="echo no route; echo; echo to the moon >&2; exit 3")
        self.check_failure(r"the load command was killed by signal 9 \(Killed\)",
                           load="kill -9 $$")

    def test_load_without_end(self):
        self.check_failure(r"^weft: round 1, native: the load command still runs after 1 s; "
                           r"its last lines:\n  busy\n$",
                           "--load-seconds", "1", load="echo busy; sleep 600")

    def test_figure_that_matches_nothing(self):
        self.check_failure(r"native: --figure matches no number in the load's output; "
                           r"its last lines:\n  reqs=5",
                           "--figure", "speed=([0-9]+)")

    def test_server_dies(self):
        self.check_failure(r"^weft: round 1, native: the server exited with status 1; "
                           r"its last lines:\n  fake server: no configuration\n$", fault="dies")
        self.check_failure(r"native: the server exited with status 4; its last lines:\n",
                           load=f"{sys.executable} {self.ask} {self.port} die", fault="dies-later")

    def test_server_never_answers(self):
        self.check_failure(rf"^weft: round 1, native: the server did not open tcp:{self.port} "
                           r"within 1 s; its last lines:\n  fake server: waiting for nothing\n$",
                           "--ready-seconds", "1", fault="silent")

    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", self.port)):
            self.check_failure(rf"^weft: round 1, native: tcp:{self.port} already answers: stop "
                               r"the server there, or use another address\n$")

    def test_library_that_is_not_loaded(self):
        # A shell that takes the library out again, as a start script might.
        server = ["sh", "-c", 'unset LD_PRELOAD; exec "$@"', "sh", SERVER, str(self.port)]
        self.check_failure(rf"^weft: round 1, weft: the server runs without {self.stand_in}",
                           server=server)

    def test_interrupt_stops_the_server(self):
        mark = self.path("mark")
        for number in (signal.SIGINT, signal.SIGTERM):
            words = self.words(load=f"echo > {mark}; sleep 600")
            with subprocess.Popen([self.weft, *words], stderr=subprocess.PIPE, text=True,
                                  env=self.environment(PID_FILE=self.pid_file)) as weft:
                wait_until(lambda: os.path.exists(mark), "load")
                self.assertTrue(alive(self.server_pid()))
                weft.send_signal(number)
                _, err = weft.communicate(timeout=command.SECONDS_MAX)
            self.assertEqual((weft.returncode, err), (130, "weft: round 1, native: interrupted\n"))
            self.assertFalse(alive(self.server_pid()))
            os.unlink(mark)

    def test_server_does_not_outlive_a_killed_command(self):
        mark = self.path("mark")
        words = self.words(load=f"echo > {mark}; sleep 600")
        with subprocess.Popen([self.weft, *words], stderr=subprocess.DEVNULL,
                              env=self.environment(PID_FILE=self.pid_file)) as weft:
            wait_until(lambda: os.path.exists(mark), "load")
            weft.kill()
        wait_until(lambda: not alive(self.server_pid()), "end of the server")


class Refused(Compare):
    def check(self, status, message, *options, **parts):
        self.assertEqual(self.compare(*options, **parts), (status, "", f"weft: {message}\n"))

    def test_wrong_values(self):
        self.check(2, "--rounds=0: must be a number from 1 to 1000", "--rounds", "0")
        self.check(2, "--workers=0: must be a number from 1 to 64", "--workers", "0")
        self.check(2, "--ready=http: must be tcp:PORT, tcp:HOST:PORT or unix:PATH", ready="http")
        self.check(2, "--ready=tcp:0: port=0: must be a number from 1 to 65535", ready="tcp:0")
        self.check(2, "--load: must be a command for /bin/sh", load=" ")
        self.check(2, "--pin-server=x: must be a number from 0 to 1023", "--pin-server", "x")
        cpu = max(os.sched_getaffinity(0)) + 1
        self.check(2, f"--pin-load={cpu}: this process may not use CPU {cpu}", "--pin-load",
                   str(cpu))
        status, _, err = self.compare("--figure", "(")
        self.assertEqual(status, 2)
        self.assertIn("weft: --figure=(: not a regular expression: ", err)

    def test_what_is_missing(self):
        self.assertEqual(self.command("compare", "--load", "x", "true")[0], 2)
        self.assertEqual(self.command("compare", "--ready", "tcp:1", "true")[0], 2)
        self.check(127, "no-such: No such file or directory", server=["no-such"])

    def test_command_that_runs_under_weft_itself(self):
        library = self.path("libweft.so")
        os.symlink(self.stand_in, library)
        done = self.command(*self.words(), LD_PRELOAD=library, PID_FILE=self.pid_file)
        self.assertEqual(done, (1, "", "weft: LD_PRELOAD holds libweft.so already, and would on "
                                       "the native side too: unset it\n"))

    def test_server_that_cannot_be_served(self):
        program = self.compile("static", "int main(void) { return 0; }", "-static")
        self.check(1, f"{program} is statically linked: nothing can be preloaded; there is "
                      "nothing to compare", server=[program])


if __name__ == "__main__":
    command.main()
