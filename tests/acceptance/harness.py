# harness.py - runs one acceptance case natively and under weft, and compares the two.
#
# A case is a function `case(run)` that drives a real program and returns its answers, a dict of
# comparable values. `main` calls it natively first: that gives the reference. Then it calls it
# once for each worker count with libweft.so preloaded, and demands the same answers, the same
# exit statuses, and no more kernel threads than workers + blocking pool + 2. Whatever happens,
# every process that was started is ended and the work directory is removed.
# Exit status: 0 ok, 1 FAIL, 77 skipped. Imported by every script beside it; standard library only.
# SPDX-License-Identifier: Apache-2.0
import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

from process import Failure, Program

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
# Kernel threads allowed beside the workers and the blocking pool: the watchdog and the control.
RUNTIME_THREADS = 2
# A fixed environment: what the tests see must not depend on who runs them.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}


class Run:
  """One pass over a case: natively (`workers` is None) or under weft with `workers` workers."""

  def __init__(self, label, directory, options, workers=None, pool=8):
    self.label = label
    self.directory = directory
    self.options = options
    self.workers = workers
    self.pool = pool
    self.programs = []
    os.makedirs(directory)
    # Servers that drop root (www-data) must reach their files.
    os.chmod(directory, 0o755)

  @property
  def threads_max(self):
    return self.workers + self.pool + RUNTIME_THREADS if self.workers else None

  def path(self, name):
    return os.path.join(self.directory, name)

  def write(self, name, content):
    """Writes a file of this run, world-readable; returns its path."""
    path = self.path(name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
      file.write(content if isinstance(content, bytes) else content.encode())
    os.chmod(path, 0o644)
    return path

  def environment(self, native=False, preload=(), extra=None):
    """The environment of a program: weft's part only if the run is under weft and not `native`."""
    env = dict(ENVIRONMENT, HOME=self.directory, TMPDIR=self.directory)
    libraries = list(preload)
    if self.workers and not native:
      env.update({k: v for k, v in os.environ.items() if k.startswith("WEFT_")})
      env["WEFT_WORKERS"] = str(self.workers)
      if self.options.intercept:
        env["WEFT_INTERCEPT"] = self.options.intercept
      libraries.append(self.options.weft)
    if libraries:
      env["LD_PRELOAD"] = " ".join(libraries)
    env.update(extra or {})
    return env

  def start(self, *argv, native=False, preload=(), env=None, cwd=None, stdin=None):
    """Starts a long-lived program; the caller stops it with Program.stop(signal)."""
    library = self.options.weft if self.workers and not native else None
    program = Program([str(a) for a in argv], self.environment(native, preload, env),
                      cwd or self.directory, self.path(f"program-{len(self.programs)}"),
                      library, stdin, not native)
    self.programs.append(program)
    return program

  def call(self, *argv, seconds=60, status=None, **options):
    """Runs a program to its end: returns it with .status, .out and .err filled.

    status: the exit status to demand, or None to leave the judgement to the caller.
    """
    program = self.start(*argv, **options)
    program.wait(seconds)
    if status is not None:
      self.expect(program.status == status,
                  f"`{' '.join(program.argv)[:200]}` ended with {program.status}, expected "
                  f"{status}: {program.complaint()}")
    return program

  def native(self, *argv, **options):
    """Runs a helper to its end, never under weft, and demands that it succeeds."""
    return self.call(*argv, native=True, status=0, **options)

  def expect(self, condition, why):
    if not condition:
      raise Failure(why)

  def threads_peak(self):
    peaks = [p.sampler.threads_peak for p in self.programs if p.under_test]
    return max(peaks, default=0)

  def check_threads(self):
    """Demands the bound on kernel threads of every process of every program under weft."""
    for program in self.programs:
      if self.workers and program.under_test:
        peak = program.sampler.threads_peak
        self.expect(peak <= self.threads_max,
                    f"{program.name} had {peak} kernel threads, at most {self.threads_max} are "
                    f"allowed ({self.workers} workers + {self.pool} pool + {RUNTIME_THREADS}): "
                    f"{program.sampler.names}")

  def close(self):
    for program in self.programs:
      program.end()


def parse():
  parser = argparse.ArgumentParser()
  parser.add_argument("--weft", help="path of libweft.so")
  parser.add_argument("--workers", default="1,2,4", help="worker counts, comma separated")
  parser.add_argument("--intercept", help="value of WEFT_INTERCEPT, e.g. patch")
  parser.add_argument("--programs", help="directory of test programs (allocators.py)")
  parser.add_argument("--native-only", action="store_true",
                      help="check the test itself: run natively twice and compare the two")
  parser.add_argument("--keep", action="store_true", help="keep the work directory")
  parser.add_argument("--seconds", type=int, default=0, help="bound of each pass")
  options = parser.parse_args()
  options.weft = os.path.abspath(options.weft) if options.weft else None
  options.workers = [int(w) for w in options.workers.split(",") if w]
  if options.native_only:
    options.weft = None
  elif not options.weft:
    parser.error("--weft PATH or --native-only is needed")
  elif not options.workers or min(options.workers) < 1:
    parser.error("--workers needs counts of 1 or more, e.g. 1,2,4")
  return options


def read_ledger():
  """The known failures: {"name" or "name/workers": reason}. A line for no script is an error."""
  ledger = {}
  with open(os.path.join(HERE, "ledger.txt"), encoding="utf-8") as file:
    for line in file:
      line = line.split("#")[0].strip()
      if line:
        name, _, reason = line.partition(":")
        script = os.path.join(HERE, name.split("/")[0] + ".py")
        if not reason.strip() or not os.path.exists(script):
          raise Failure(f"ledger.txt: `{line}` names no script or no reason")
        ledger[name.strip()] = reason.strip()
  return ledger


def check_library(directory, options):
  """libweft.so must load, and say nothing, in a program that starts no thread."""
  run = Run("preload", os.path.join(directory, "preload"), options, workers=1)
  try:
    maps = run.call("/bin/cat", "/proc/self/maps", status=0)
    run.expect(not maps.err, f"/bin/cat under weft said: {maps.complaint()}")
    run.expect(options.weft.encode() in maps.out, f"{options.weft} was not mapped into /bin/cat")
  finally:
    run.close()


def attempt(case, run, seconds):
  """One bounded pass: returns (answers, None), or (None, why) when it failed."""
  def alarm(*_):
    raise Failure(f"not done in {seconds} seconds")
  signal.signal(signal.SIGALRM, alarm)
  signal.alarm(seconds)
  begin = time.monotonic()
  try:
    answers = case(run)
    signal.alarm(0)
    run.check_threads()
  except Exception as error:  # the case's own sockets and parsers fail in many ways
    signal.alarm(0)
    if not isinstance(error, Failure):
      traceback.print_exc(file=sys.stdout)
    for program in run.programs:
      # The last ones tell the story; an earlier one is worth a word if it lives or ended badly.
      if program in run.programs[-2:] or not program.ended() or program.status != 0:
        print(program.report())
    return None, str(error) or type(error).__name__
  finally:
    signal.alarm(0)
    run.close()
  took = time.monotonic() - begin
  rss = max((p.sampler.rss_peak for p in run.programs if p.under_test), default=0)
  limit = f" of at most {run.threads_max}" if run.workers else ""
  print(f"  {run.label}: {len(answers)} answers in {took:.1f} s, peak {run.threads_peak()}{limit} "
        f"kernel threads, {rss / 1024:.0f} MiB", flush=True)
  return answers, None


def shorten(value):
  text = repr(value)
  return text if len(text) <= 300 else f"{text[:140]} ... {text[-140:]}"


def difference(reference, answers):
  """Says where two dicts of answers differ, or None."""
  for key in sorted(set(reference) | set(answers)):
    ours, theirs = answers.get(key, "missing"), reference.get(key, "missing")
    if ours != theirs:
      return f"{key}: native {shorten(theirs)}, here {shorten(ours)}"
  return None


def compare(name, case, directory, options, seconds, pool, native_threads):
  """All the passes; returns the list of failures, each a sentence."""
  ledger = read_ledger()
  if not options.native_only:
    check_library(directory, options)
  run = Run("native", os.path.join(directory, "native"), options)
  reference, why = attempt(case, run, seconds)
  if why:
    return [f"native: {why} (the test or the machine is at fault, not weft)"]
  if run.threads_peak() < native_threads:
    return [f"native: peak {run.threads_peak()} kernel threads, expected {native_threads}: the "
            f"load is too light to prove anything"]
  if options.native_only:
    again, why = attempt(case, Run("native again", os.path.join(directory, "again"), options),
                         seconds)
    why = why or difference(reference, again)
    return [f"native again: {why}"] if why else []
  failures = []
  for workers in options.workers:
    unit = f"{name}/{workers}"
    run = Run(f"{workers} workers", os.path.join(directory, f"workers-{workers}"), options, workers,
              pool)
    answers, why = attempt(case, run, seconds)
    why = why or difference(reference, answers)
    known = ledger.get(unit) or ledger.get(name)
    if why and known:
      print(f"  {unit}: expected failure ({known}): {why}")
    elif why:
      failures.append(f"{workers} workers: {why}")
    elif known:
      failures.append(f"{workers} workers: passed unexpectedly, take it out of ledger.txt: {known}")
  return failures


def main(name, case, needs=(), prepare=None, pool=8, native_threads=0, seconds=60):
  """Runs the whole test and exits.

  needs: paths of the programs used; a missing one skips the test.
  prepare(run): starts what all passes share (a native backend), before the first.
  pool: how many blocking-pool kernel threads the program may cause.
  native_threads: the least peak a native pass must show, or else the bound proves nothing.
  """
  options = parse()
  missing = [path for path in needs if not os.path.exists(path)]
  if missing:
    print(f"{name}: skip, not installed: {' '.join(missing)}")
    sys.exit(SKIPPED)
  # A shell's background job ignores SIGINT and its children inherit that: undo it.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
  directory = tempfile.mkdtemp(prefix=f"weft-{name}-")
  os.chmod(directory, 0o755)
  stage = Run("stage", os.path.join(directory, "stage"), options)
  try:
    if prepare:
      prepare(stage)
    failures = compare(name, case, directory, options, options.seconds or seconds, pool,
                       native_threads)
  except Failure as error:
    failures = [str(error)]
  finally:
    stage.close()
    if options.keep:
      print(f"  kept {directory}")
    else:
      shutil.rmtree(directory, ignore_errors=True)
  if failures:
    print(f"{name}: FAIL {'; '.join(failures)}")
    sys.exit(1)
  modes = "native twice" if options.native_only else f"workers {options.workers}"
  print(f"{name}: ok {modes}")
  sys.exit(0)
