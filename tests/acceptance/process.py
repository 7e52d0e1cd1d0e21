# process.py - one program under test: its start, its peak of kernel threads, its end.
#
# Guarantees: output goes to files, so that no pipe fills up; every wait has a bound and waits on
# an event (the process's pidfd, a connect), never on a guess; only processes that descend from
# one started here are ended. Imported by harness.py and the scripts.
# SPDX-License-Identifier: Apache-2.0
import collections
import os
import random
import select
import signal
import socket
import subprocess
import threading
import time

SAMPLE_MS = 20


class Failure(Exception):
  """The program under test did something wrong; the text says what."""


def free_port():
  """A free TCP port below the ephemeral range, so that no outgoing connection takes it first."""
  for _ in range(200):
    port = random.randrange(15000, 32000)
    with socket.socket() as probe:
      try:
        probe.bind(("127.0.0.1", port))
        return port
      except OSError:
        continue
  raise Failure("no free port on loopback")


def listens(port):
  """True if some process listens on `port`; asks /proc, so that the server sees no connection."""
  wanted, state = f":{port:04X}", "0A"
  for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    with open(table, encoding="ascii") as file:
      for line in file:
        fields = line.split()
        if fields[1].endswith(wanted) and fields[3] == state:
          return True
  return False


def parents():
  """{pid: parent pid} of every process that can be seen now."""
  table = {}
  for entry in os.listdir("/proc"):
    if entry.isdigit():
      try:
        with open(f"/proc/{entry}/stat", "rb") as file:
          # The name may hold spaces and parentheses: fields count from the last one.
          table[int(entry)] = int(file.read().rpartition(b")")[2].split()[1])
      except (OSError, IndexError):
        continue
  return table


def descendants(root):
  """The processes below `root`, itself not included."""
  children = collections.defaultdict(list)
  for pid, parent in parents().items():
    children[parent].append(pid)
  found, queue = [], [root]
  while queue:
    for child in children[queue.pop()]:
      found.append(child)
      queue.append(child)
  return found


def task_names(pid):
  """How many kernel threads of each name `pid` has; a digit run counts as one name."""
  names = collections.Counter()
  for task in os.listdir(f"/proc/{pid}/task"):
    try:
      with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8", errors="replace") as file:
        names[file.read().strip().rstrip("0123456789")] += 1
    except OSError:
      continue
  return dict(names)


class Sampler(threading.Thread):
  """Samples /proc/PID/task of a process tree until its root ends.

  threads_peak: the most kernel threads that one process had. names: who they were at that time.
  rss_peak: the most KiB that the tree had resident.
  """

  # Every so many samples the tree is looked up anew; between, only the known processes.
  TREE_EVERY = 5

  def __init__(self, pid, pidfd):
    super().__init__(daemon=True)
    self.pid = pid
    self.pidfd = pidfd
    self.threads_peak = 0
    self.rss_peak = 0
    self.names = {}
    self.start()

  def run(self):
    poller = select.poll()
    poller.register(self.pidfd, select.POLLIN)
    count, tree = 0, [self.pid]
    while True:
      if count % self.TREE_EVERY == 0:
        tree = [self.pid] + descendants(self.pid)
      self.sample(tree)
      if poller.poll(SAMPLE_MS):
        return
      count += 1

  def sample(self, tree):
    rss = 0
    for pid in tree:
      try:
        threads = len(os.listdir(f"/proc/{pid}/task"))
        with open(f"/proc/{pid}/statm", "rb") as file:
          rss += int(file.read().split()[1]) * 4
        if threads > self.threads_peak:
          self.names = task_names(pid)
          self.threads_peak = threads
      except OSError:
        continue
    self.rss_peak = max(self.rss_peak, rss)


class Program:
  """A started program. status: exit status, or minus the signal; None while it runs."""

  def __init__(self, argv, env, cwd, log, library, stdin, under_test):
    self.argv = argv
    self.name = os.path.basename(argv[0])
    self.library = library
    # False for helpers, which run natively in every pass: their threads do not count.
    self.under_test = under_test
    self.status = None
    self.log = log
    with open(log + ".out", "wb") as out, open(log + ".err", "wb") as err:
      source = open(stdin, "rb") if stdin else subprocess.DEVNULL
      self.popen = subprocess.Popen(argv, env=env, cwd=cwd, stdin=source, stdout=out, stderr=err,
                                    start_new_session=True)
      if stdin:
        source.close()
    self.pid = self.popen.pid
    self.pidfd = os.pidfd_open(self.pid)
    self.sampler = Sampler(self.pid, self.pidfd)

  @property
  def out(self):
    with open(self.log + ".out", "rb") as file:
      return file.read()

  @property
  def err(self):
    with open(self.log + ".err", "rb") as file:
      return file.read()

  def complaint(self):
    text = (self.err or self.out)[-400:].decode(errors="replace").strip()
    return text or "it said nothing"

  def ended(self, seconds=0):
    """True once the process ended; waits at most `seconds` for it."""
    if self.status is not None:
      return True
    poller = select.poll()
    poller.register(self.pidfd, select.POLLIN)
    if not poller.poll(seconds * 1000):
      return False
    # WNOWAIT: it stays a zombie, and its process group's number stays ours, until end().
    info = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
    self.status = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
    return True

  def wait(self, seconds=60):
    """Waits for the end; returns the status."""
    if not self.ended(seconds):
      raise Failure(f"{self.name} did not end in {seconds} seconds")
    return self.status

  def wait_until(self, ready, what, seconds=20):
    """Waits until ready() is true; the program must live on meanwhile."""
    deadline = time.monotonic() + seconds
    while not ready():
      if self.ended(0.01):
        raise Failure(f"{self.name} ended with {self.status} before {what}: {self.complaint()}")
      if time.monotonic() > deadline:
        raise Failure(f"{self.name}: {what} not seen in {seconds} seconds")

  def wait_port(self, port, seconds=20):
    self.wait_until(lambda: listens(port), f"port {port} opened", seconds)

  def check_mapped(self):
    with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="replace") as file:
      if self.library and self.library not in file.read():
        raise Failure(f"{self.name} runs without {self.library}")

  def stop(self, number=signal.SIGTERM, seconds=20):
    """Ends the program by its ordinary signal; returns the status."""
    if self.ended():
      raise Failure(f"{self.name} ended with {self.status} before it was told to: "
                    f"{self.complaint()}")
    self.check_mapped()
    signal.pidfd_send_signal(self.pidfd, number)
    if not self.ended(seconds):
      raise Failure(f"{self.name} did not end in {seconds} seconds after "
                    f"{signal.Signals(number).name}")
    return self.status

  def end(self):
    """The last resort: kills whatever is left of the program and of what it started."""
    if self.pidfd < 0:
      return
    left = [] if self.ended() else descendants(self.pid)
    for kill, target in [(os.killpg, self.pid)] + [(os.kill, pid) for pid in left]:
      try:
        kill(target, signal.SIGKILL)
      except OSError:
        continue
    self.ended(10)
    self.sampler.join(5)
    self.popen.wait(10)
    os.close(self.pidfd)
    self.pidfd = -1

  def report(self):
    """For a failure: how it ended, or where its kernel threads stand, and what it said last."""
    lines = [f"--- {' '.join(self.argv)[:200]}"]
    if self.ended():
      lines.append(f"    ended with {self.status}")
    else:
      lines.append(f"    alive, kernel threads: {task_names(self.pid)}")
      for task in sorted(os.listdir(f"/proc/{self.pid}/task"))[:20]:
        lines.append(f"    {task}: {where(self.pid, task)}")
    for stream in (self.out, self.err):
      lines += ["    " + l for l in stream[-1500:].decode(errors="replace").splitlines()[-12:]]
    return "\n".join(lines)


def where(pid, task):
  """State, kernel wait place and system call of one kernel thread."""
  words = []
  for name in ("comm", "wchan", "syscall"):
    try:
      with open(f"/proc/{pid}/task/{task}/{name}", encoding="utf-8", errors="replace") as file:
        words.append(file.read().strip()[:60])
    except OSError:
      words.append("?")
  return " | ".join(words)
