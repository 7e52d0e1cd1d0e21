# harness.py - starts the measured servers and programs, runs the load, returns what was read.
# Guarantee: every child has a bounded life and is ended by its own pid, also when the run is broken
# off; a sample is either whole (no error, no wrong byte, no complaint of weft's) or a SampleError.
# Used by scripts/bench. Read next: report.py.
# SPDX-License-Identifier: Apache-2.0
"""Children of a benchmark run: servers, load generators, micro programs."""

import dataclasses
import os
import pathlib
import re
import shlex
import socket
import subprocess
import tempfile
import threading
import time

READY_SECONDS = 10
STOP_SECONDS = 5
# Beyond warm-up and measuring: connecting 10,000 and waiting for the last replies.
SLACK_SECONDS = 40
# The blocking pool's default bound is 128 threads.
LIVE_CHECK_MIN = 200
SERVER_CORE = "0"
LOAD_CORE = "1"


class SampleError(Exception):
    """A sample that must not enter a table."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of a table: a program, and the libweft.so under which it runs (or None)."""
    name: str
    program: pathlib.Path
    arguments: tuple = ()
    library: pathlib.Path = None
    weft_environment: tuple = ()

    def command(self, port=None):
        """The exact command; env stands behind taskset so that only the program is preloaded."""
        command = ["taskset", "-c", SERVER_CORE]
        if self.library:
            command += ["env", f"LD_PRELOAD={self.library}", *self.weft_environment]
        command.append(str(self.program))
        if port is not None:
            command.append(str(port))
        return command + list(self.arguments)


def child_environment():
    """The caller's environment without anything that would reach weft by accident."""
    return {name: value for name, value in os.environ.items()
            if name != "LD_PRELOAD" and not name.startswith("WEFT_")}


def check_complaints(variant, text):
    """weft says in one line when it does not serve a program; such a run measures nothing."""
    for line in text.splitlines():
        if variant.library and line.startswith("weft:"):
            raise SampleError(f"{variant.name}: {line}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    """CPU time of another process, to the nanosecond (its CPU clock: clock_getcpuclockid(3))."""
    return time.clock_gettime(((~pid) << 3) | 2)


def thread_count(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^Threads:\s*(\d+)", status, re.MULTILINE)[1])


class Server:
    """A running server: `with Server(variant) as server:` yields once it accepts connections."""

    def __init__(self, variant):
        self.variant = variant
        self.port = free_port()
        self.stderr = None
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def __enter__(self):
        self.stderr = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(self.variant.command(self.port), env=child_environment(),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=self.stderr)
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind, error, trace):
        ended = self.process.poll()
        text = self._stop()
        if kind is not None and kind is not SampleError:
            return
        if ended is not None:
            raise SampleError(f"{self.variant.name}: the server ended with {ended}: {text[-300:]}")
        check_complaints(self.variant, text)

    def _wait_until_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stderr.seek(0)
        raise SampleError(f"{self.variant.name}: the server does not accept connections: "
                          f"{self.stderr.read()[-300:]}")

    def _stop(self):
        """Ends the server and returns what it said."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.stderr.seek(0)
        text = self.stderr.read()
        self.stderr.close()
        return text


def run_bounded(command, seconds):
    """Runs a command to its end; returns (stdout, stderr) or raises SampleError."""
    try:
        result = subprocess.run(command, env=child_environment(), stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise SampleError(f"{shlex.join(command)}: not done after {seconds:.0f} s") from None
    if result.returncode != 0:
        raise SampleError(f"{shlex.join(command)}: exit {result.returncode}: "
                          f"{(result.stderr or result.stdout).strip()[-300:]}")
    return result.stdout, result.stderr


def parse_fields(line):
    """`a=1 b=2.5 c=x` as a dictionary, numbers as floats."""
    fields = {}
    for word in line.split():
        name, _, value = word.partition("=")
        try:
            fields[name] = float(value)
        except ValueError:
            fields[name] = value
    return fields


def load_command(loadgen, port, pid, arguments):
    return ["taskset", "-c", LOAD_CORE, str(loadgen), "-p", str(port), "-P", str(pid),
            *map(str, arguments)]


def sample_load(variant, loadgen, arguments, seconds, connections):
    """One server under one run of the load generator. Returns its fields."""
    with Server(variant) as server:
        command = load_command(loadgen, server.port, server.pid, arguments)
        fields = parse_fields(run_bounded(command, seconds + SLACK_SECONDS)[0])
    check_live(variant, connections, fields["threads"])
    return fields


def check_live(variant, connections, threads):
    """With more connections than a blocking pool has threads: are they fibers at all?"""
    if variant.library and connections >= LIVE_CHECK_MIN and threads >= connections:
        raise SampleError(f"{variant.name}: not live: {threads:.0f} kernel threads")


def wrk_command(port, connections, seconds):
    return ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
            "--latency", f"http://127.0.0.1:{port}/"]


def sample_http(variant, connections, seconds):
    """One server under wrk, after a second of warm-up. Returns fields named as loadgen's."""
    with Server(variant) as server:
        run_bounded(wrk_command(server.port, connections, 1), 1 + SLACK_SECONDS)
        threads = []
        # While wrk's connections are open: at half time.
        reading = threading.Timer(seconds / 2, lambda: threads.append(thread_count(server.pid)))
        before = cpu_seconds(server.pid)
        reading.start()
        try:
            text = run_bounded(wrk_command(server.port, connections, seconds),
                               seconds + SLACK_SECONDS)[0]
        finally:
            reading.cancel()
            reading.join()
        used = cpu_seconds(server.pid) - before
    if "Socket errors" in text or "Non-2xx" in text:
        raise SampleError(f"{variant.name}: wrk reports errors: {text.strip()[-300:]}")
    requests = int(re.search(r"(\d+) requests in", text)[1])
    if requests == 0 or not threads:
        raise SampleError(f"{variant.name}: no request was answered")
    check_live(variant, connections, threads[0])
    return {"rps": float(re.search(r"Requests/sec:\s*([\d.]+)", text)[1]),
            "p50_us": wrk_latency_us(text, 50), "p99_us": wrk_latency_us(text, 99),
            "server_us_per_req": used / requests * 1e6, "threads": threads[0]}


def wrk_latency_us(text, percent):
    value, unit = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE).groups()
    return float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def sample_micro(variant, seconds):
    """One run of a micro program. Returns {name: fields} of its lines."""
    output, complaints = run_bounded(variant.command(), seconds)
    check_complaints(variant, complaints)
    lines = [parse_fields(line) for line in output.splitlines() if line.startswith("name=")]
    return {fields["name"]: fields for fields in lines}
