#!/usr/bin/env python3
# run_pair.py - runs one program natively and under weft and demands the same behaviour.
# Guarantee: stdout, stderr and the way the process ended are compared byte for byte for each worker
# count; every run has its own folder and session and is ended within the timeout, by its own pid;
# a program that fails natively is never excused. ctest runs it (label e2e), people run it by hand:
#   run_pair.py --weft build/libweft.so --workers 1,2,4 [--intercept patch] PROGRAM [args]
#   run_pair.py --native-only --repeat 20 PROGRAM [args]
# Exit: 0 same, 1 different, 2 wrong use, 77 the program said that it cannot run here.
# SPDX-License-Identifier: Apache-2.0
"""Runs a program natively and under weft and compares output and exit status."""

import argparse
import difflib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

SKIP_STATUS = 77
POOL_MAX = 128  # WEFT_BLOCKING_MAX's default
RUNTIME_THREADS = 2  # the watchdog and the control thread
SAMPLE_SECONDS = 0.002
DIFF_LINES = 60


class Outcome:
    """What one run did: outputs, status (a signal is negative), the most kernel threads seen."""

    def __init__(self, stdout, stderr, status, seconds, timed_out, threads_max):
        self.stdout = stdout
        self.stderr = stderr
        self.status = status
        self.seconds = seconds
        self.timed_out = timed_out
        self.threads_max = threads_max

    def ending(self):
        if self.timed_out:
            return "no end within the timeout (after %.1f s)" % self.seconds
        return describe_status(self.status)


def describe_status(status):
    if status >= 0:
        return "exit status %d" % status
    try:
        return "signal %s" % signal.Signals(-status).name
    except ValueError:
        return "signal %d" % -status


def parse_status(text):
    """Turns `3` or `SIGABRT` into the number that subprocess reports."""
    if text.upper().startswith("SIG"):
        return -int(signal.Signals[text.upper()])
    return int(text)


class ThreadSampler(threading.Thread):
    """Keeps the largest number of kernel threads that a process was seen to have."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.folder = "/proc/%d/task" % pid
        self.threads_max = 0
        self.finished = threading.Event()

    def run(self):
        while not self.finished.is_set():
            try:
                self.threads_max = max(self.threads_max, len(os.listdir(self.folder)))
            except OSError:
                return
            self.finished.wait(SAMPLE_SECONDS)

    def stop(self):
        self.finished.set()
        self.join()
        return self.threads_max


def environment_for(weft, workers, intercept, folder):
    """The native run sees no trace of weft; the other one sees it and what the caller set."""
    environment = dict(os.environ, TMPDIR=folder, LC_ALL="C", TZ="UTC0")
    environment.pop("LD_PRELOAD", None)
    if weft is None:
        for name in [name for name in environment if name.startswith("WEFT_")]:
            del environment[name]
        return environment
    environment["LD_PRELOAD"] = weft
    environment["WEFT_WORKERS"] = str(workers)
    if intercept:
        environment["WEFT_INTERCEPT"] = intercept
    return environment


def ends_within(pid, seconds):
    """Waits for a child's end but leaves it unreaped, so that its pid stays its own."""
    pidfd = os.pidfd_open(pid)
    try:
        ready = select.poll()
        ready.register(pidfd, select.POLLIN)
        return bool(ready.poll(seconds * 1000))
    finally:
        os.close(pidfd)


def end_session(process):
    """Kills what is left of the session that this run started; its leader is not reaped yet."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def run_once(command, weft, workers, options):
    folder = tempfile.mkdtemp(prefix="weft-pair-")
    try:
        with open(os.path.join(folder, "stdout"), "w+b") as out, open(
            os.path.join(folder, "stderr"), "w+b"
        ) as err:
            scratch = os.path.join(folder, "scratch")
            os.mkdir(scratch)
            started = time.monotonic()
            # Files, not pipes: a child that outlives the program cannot keep us waiting.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=scratch,
                env=environment_for(weft, workers, options.intercept, scratch),
                start_new_session=True,
                restore_signals=True,
            )
            sampler = None
            if options.threads_max and weft is not None:
                sampler = ThreadSampler(process.pid)
                sampler.start()
            timed_out = not ends_within(process.pid, options.timeout)
            seconds = time.monotonic() - started
            threads_max = sampler.stop() if sampler else 0
            end_session(process)
            status = process.wait()
            out.seek(0)
            err.seek(0)
            return Outcome(out.read(), err.read(), status, seconds, timed_out, threads_max)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show_difference(name, native, other):
    native_lines = native.decode("utf-8", "backslashreplace").splitlines()
    other_lines = other.decode("utf-8", "backslashreplace").splitlines()
    lines = list(
        difflib.unified_diff(
            native_lines, other_lines, name + " native", name + " weft", "", "", 2, ""
        )
    )
    if not lines:
        lines = ["%s: the bytes differ only in line ends" % name]
    for line in lines[:DIFF_LINES]:
        print("    " + line)
    if len(lines) > DIFF_LINES:
        print("    ... %d more lines" % (len(lines) - DIFF_LINES))


def differences(native, other, workers, options):
    """Names each way in which the run under weft is not the native one."""
    problems = []
    if other.timed_out or other.status != native.status:
        problems.append("ended by %s, natively by %s" % (other.ending(), native.ending()))
    if other.stdout != native.stdout:
        problems.append("stdout differs")
    if other.stderr != native.stderr:
        problems.append("stderr differs")
    if options.threads_max:
        limit = workers + RUNTIME_THREADS + (0 if options.no_pool else POOL_MAX)
        if other.threads_max > limit:
            problems.append(
                "%d kernel threads seen, at most %d allowed" % (other.threads_max, limit)
            )
    return problems


def run_natively(options):
    """Returns the native outcome, or None after saying what is wrong with the program itself."""
    outcome = None
    for turn in range(options.repeat):
        outcome = run_once(options.command, None, 0, options)
        if outcome.status == SKIP_STATUS and not outcome.timed_out:
            return outcome
        if outcome.timed_out or outcome.status != options.expect:
            print(
                "run_pair: native run %d of %s: %s, expected %s"
                % (turn + 1, options.name, outcome.ending(), describe_status(options.expect))
            )
            for stream in (outcome.stdout, outcome.stderr):
                sys.stdout.write(stream.decode("utf-8", "backslashreplace"))
            return None
    return outcome


def compare_all(native, options):
    """Runs under weft with each worker count; returns whether every run was the same."""
    same = True
    for workers in options.workers:
        other = run_once(options.command, options.weft, workers, options)
        problems = differences(native, other, workers, options)
        verdict = "same" if not problems else "; ".join(problems)
        seen = ", at most %d kernel threads seen" % other.threads_max if options.threads_max else ""
        print(
            "%s with %d workers: %s (%.2f s, natively %.2f s%s)"
            % (options.name, workers, verdict, other.seconds, native.seconds, seen)
        )
        if other.stdout != native.stdout:
            show_difference("stdout", native.stdout, other.stdout)
        if other.stderr != native.stderr:
            show_difference("stderr", native.stderr, other.stderr)
        same = same and not problems
    return same


def ledger_reason(path, name):
    """The reason why a program is known to fail under weft, or None. Lines are `name: reason`."""
    if path is None:
        return None
    with open(path, encoding="utf-8") as ledger:
        for number, line in enumerate(ledger, 1):
            entry = line.strip()
            if not entry or entry.startswith("#"):
                continue
            known, colon, reason = entry.partition(":")
            if not colon or not reason.strip():
                sys.exit("run_pair: %s:%d: not `name: reason`: give the reason" % (path, number))
            if known.strip() == name:
                return reason.strip()
    return None


def parse_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weft", help="libweft.so")
    parser.add_argument("--workers", default="1,2,4", help="worker counts (default: %(default)s)")
    parser.add_argument("--intercept", help="WEFT_INTERCEPT for the runs under weft")
    parser.add_argument("--native-only", action="store_true", help="only the native run")
    parser.add_argument("--repeat", type=int, default=1, help="native runs (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for each run")
    parser.add_argument("--expect", type=parse_status, default=0, metavar="STATUS|SIGNAME",
                        help="how the native run must end (default: %(default)s)")
    parser.add_argument("--threads-max", action="store_true",
                        help="fail on more kernel threads than workers + pool + 2")
    parser.add_argument("--no-pool", action="store_true",
                        help="with --threads-max: the program needs no blocking pool")
    parser.add_argument("--ledger", help="file of `name: reason` for known failures under weft")
    parser.add_argument("--name", help="the program's name in the ledger (default: its file's)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="PROGRAM [args]")
    options = parser.parse_args(arguments)
    if not options.command:
        parser.error("no program given")
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    options.command[0] = os.path.abspath(options.command[0])
    options.name = options.name or os.path.basename(options.command[0])
    if not options.native_only:
        if options.weft is None:
            parser.error("give --weft LIBWEFT.SO, or --native-only")
        options.weft = os.path.abspath(options.weft)
        if not os.path.exists(options.weft):
            parser.error("%s does not exist: build it first" % options.weft)
    try:
        options.workers = [int(count) for count in options.workers.split(",")]
    except ValueError:
        parser.error("--workers takes numbers with commas between them")
    return options


def main(arguments):
    options = parse_options(arguments)
    native = run_natively(options)
    if native is None:
        return 1
    if native.status == SKIP_STATUS:
        sys.stdout.write(native.stdout.decode("utf-8", "backslashreplace"))
        return SKIP_STATUS
    if options.native_only:
        print("%s natively: %s (%.2f s)" % (options.name, native.ending(), native.seconds))
        return 0
    same = compare_all(native, options)
    reason = ledger_reason(options.ledger, options.name)
    if reason is None:
        return 0 if same else 1
    if same:
        print("unexpected pass: %s is in the ledger (%s); take it out" % (options.name, reason))
        return 1
    print("known failure: %s: %s" % (options.name, reason))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
