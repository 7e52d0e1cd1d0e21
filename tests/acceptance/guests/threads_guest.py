# threads_guest.py - guest: what Python's threading offers, each part checked and then named.
#
# Prints one line a part; the lines are the same in every correct run (no times, no order of
# threads). Timeouts are checked from below exactly, and from above with room for a busy machine.
# Run by python_threads.py, natively and under weft.
# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import hashlib
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

THREADS = 100
# How late a wake-up may be on a loaded machine before we call it lost.
LATE_S = 5


def start(count, body):
  threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
  for thread in threads:
    thread.start()
  return threads


def join(threads):
  for thread in threads:
    thread.join(30)
    assert not thread.is_alive(), f"{thread.name} was not joined"


def timed(wait, seconds):
  """Demands that wait() gives up (answers False) after `seconds`, not sooner."""
  begin = time.monotonic()
  assert not wait(), "a wait for nothing succeeded"
  took = time.monotonic() - begin
  assert seconds <= took + 0.001 and took < seconds + LATE_S, f"{seconds} s took {took:.3f} s"


def locks():
  lock, reentrant, total = threading.Lock(), threading.RLock(), [0]
  everyone = threading.Barrier(THREADS)

  def body(index):
    everyone.wait(30)
    for _ in range(50):
      with lock:
        seen = total[0]
        if index % 10 == 0:
          time.sleep(0)
        total[0] = seen + 1
      with reentrant, reentrant:
        pass
  join(start(THREADS, body))
  return total[0]


def lock_timeouts():
  lock, got = threading.Lock(), []

  def body(_):
    got.append(lock.acquire(timeout=30))
    lock.release()
  with lock:
    timed(lambda: lock.acquire(timeout=0.1), 0.1)
    assert not lock.acquire(blocking=False)
    threads = start(10, body)
  join(threads)
  return got


def conditions():
  condition, ready, woken = threading.Condition(), [0], []

  def body(index):
    with condition:
      assert condition.wait_for(lambda: ready[0] > index, 30)
      woken.append(index)
      condition.notify_all()
  threads = start(THREADS, body)
  with condition:
    for step in range(1, THREADS + 1):
      ready[0] = step
      condition.notify_all()
      assert condition.wait_for(lambda: len(woken) == step, 30)
    timed(lambda: condition.wait(0.1), 0.1)
  join(threads)
  return woken == list(range(THREADS))


def semaphores():
  semaphore, inside, most, lock = threading.BoundedSemaphore(5), [0], [0], threading.Lock()

  def body(_):
    for _ in range(5):
      with semaphore:
        with lock:
          inside[0] += 1
          most[0] = max(most[0], inside[0])
        time.sleep(0.001)
        with lock:
          inside[0] -= 1
  join(start(40, body))
  timed(lambda: threading.Semaphore(0).acquire(timeout=0.1), 0.1)
  try:
    semaphore.release()
  except ValueError:
    return inside[0], most[0] <= 5, "bounded"
  return "a bounded semaphore grew"


def events():
  event, local, count, lock = threading.Event(), threading.local(), [0], threading.Lock()

  def body(index):
    local.value = index
    assert event.wait(30)
    with lock:
      count[0] += local.value
  threads = start(THREADS, body)
  timed(lambda: threading.Event().wait(0.1), 0.1)
  event.set()
  join(threads)
  return count[0]


def barriers():
  barrier, places, rounds = threading.Barrier(30), [], 3

  def body(_):
    for _ in range(rounds):
      places.append(barrier.wait(30))
  join(start(30, body))
  lonely = threading.Barrier(2)
  try:
    lonely.wait(0.1)
  except threading.BrokenBarrierError:
    return sorted(places) == sorted(list(range(30)) * rounds), lonely.broken
  return "a barrier let one of two through"


def queues():
  items, results = queue.Queue(8), queue.SimpleQueue()

  def produce(index):
    for number in range(200):
      items.put((index, number), timeout=30)

  def consume(_):
    while True:
      item = items.get(timeout=30)
      if item is None:
        return
      results.put(item)
  consumers, producers = start(8, consume), start(8, produce)
  join(producers)
  for _ in consumers:
    items.put(None, timeout=30)
  join(consumers)

  def empty():
    try:
      return items.get(timeout=0.1)
    except queue.Empty:
      return False
  timed(empty, 0.1)
  got = sorted(results.get_nowait() for _ in range(results.qsize()))
  return got == [(i, n) for i in range(8) for n in range(200)]


def executors():
  def digest(number):
    return hashlib.sha256(b"%d" % number * 2000).hexdigest()
  with concurrent.futures.ThreadPoolExecutor(64) as pool:
    digests = list(pool.map(digest, range(2000)))
    failing = pool.submit(lambda: 1 // 0)
    assert isinstance(failing.exception(30), ZeroDivisionError)
  assert digests == [digest(n) for n in range(2000)]
  begin = time.monotonic()
  with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
    slept = list(pool.map(lambda _: timed_sleep(0.2), range(2 * THREADS)))
  assert min(slept) >= 0.2
  assert time.monotonic() - begin < 0.4 + LATE_S, "sleeping threads did not sleep at once"
  return hashlib.sha256("".join(digests).encode()).hexdigest()


def timed_sleep(seconds):
  begin = time.monotonic()
  time.sleep(seconds)
  return time.monotonic() - begin


def timers():
  fired, done = [], threading.Event()
  cancelled = threading.Timer(0.1, lambda: fired.append("cancelled"))
  cancelled.start()
  cancelled.cancel()
  cancelled.join(30)
  threading.Timer(0.2, lambda: (fired.append("fired"), done.set())).start()
  assert done.wait(30)
  return fired


def streams():
  """A socket pair and a pipe a thread, with more data than a buffer holds."""
  def pair(index):
    near, far = socket.socketpair()
    with near, far:
      answer = threading.Thread(target=lambda: [far.sendall(far.recv(100)) for _ in range(100)])
      answer.start()
      for number in range(100):
        word = b"%d-%d" % (index, number)
        near.sendall(word)
        if near.recv(100) != word:
          return False
      answer.join(30)
      near.settimeout(0.1)
      try:
        near.recv(1)
      except TimeoutError:
        return True
    return False

  def pipe(index):
    source, sink = os.pipe()
    sent = bytes([index]) * 300000

    def write():
      with os.fdopen(sink, "wb") as file:
        file.write(sent)
    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(source, "rb") as file:
      received = file.read()
    writer.join(30)
    return received == sent
  with concurrent.futures.ThreadPoolExecutor(40) as pool:
    return sum(pool.map(pair, range(80))), sum(pool.map(pipe, range(40)))


def files():
  def body(index):
    with tempfile.NamedTemporaryFile() as file:
      file.write(b"%d\n" % index * 5000)
      file.flush()
      os.fsync(file.fileno())
      file.seek(0)
      return file.read() == b"%d\n" % index * 5000
  with concurrent.futures.ThreadPoolExecutor(20) as pool:
    return sum(pool.map(body, range(60)))


def names():
  def body(_):
    return socket.getaddrinfo("localhost", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4]
  with concurrent.futures.ThreadPoolExecutor(20) as pool:
    return sorted(set(pool.map(body, range(100))))


def processes():
  def body(index):
    shell = f"read line; echo $line {index}; echo error >&2; exit {index % 7}"
    done = subprocess.run(["/bin/sh", "-c", shell], input="hello\n", capture_output=True,
                          text=True, timeout=30, check=False)
    return done.stdout, done.stderr, done.returncode
  with concurrent.futures.ThreadPoolExecutor(10) as pool:
    results = list(pool.map(body, range(30)))
  assert results == [(f"hello {i}\n", "error\n", i % 7) for i in range(30)], results[:3]
  sleeper = subprocess.Popen(["/bin/sleep", "60"])
  try:
    sleeper.wait(0.1)
  except subprocess.TimeoutExpired:
    sleeper.terminate()
  missing = "no error"
  try:
    subprocess.run(["/nonexistent"], check=False)
  except FileNotFoundError:
    missing = "not found"
  return sleeper.wait(30), missing


def forks():
  """fork from a thread: the child has one thread, starts another, and that one ends it."""
  statuses = []

  def body(index):
    pid = os.fork()
    if pid == 0:
      threading.Thread(target=lambda: os._exit(index + 1)).start()
      time.sleep(30)
      os._exit(99)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
  join(start(3, body))
  return sorted(statuses)


def signals():
  """Python runs handlers in the main thread, whichever thread sent the signal."""
  got = []

  def note(number, _):
    got.append((signal.Signals(number).name,
                threading.current_thread() is threading.main_thread()))
  for number in (signal.SIGUSR1, signal.SIGALRM):
    signal.signal(number, note)
  join(start(1, lambda _: os.kill(os.getpid(), signal.SIGUSR1)))
  signal.setitimer(signal.ITIMER_REAL, 0.1)
  deadline = time.monotonic() + 30
  while len(got) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
  begin = time.monotonic()
  signal.signal(signal.SIGALRM, signal.default_int_handler)
  signal.setitimer(signal.ITIMER_REAL, 0.1)
  try:
    time.sleep(30)
  except KeyboardInterrupt:
    return sorted(got), time.monotonic() - begin < 20
  return "the sleep was not interrupted"


def deep_stack():
  def depth(left):
    return 0 if left == 0 else 1 + depth(left - 1)
  threading.stack_size(16 << 20)
  sys.setrecursionlimit(30000)
  got = []
  join(start(4, lambda _: got.append(depth(15000))))
  threading.stack_size(0)
  return got


def main():
  for part in (locks, lock_timeouts, conditions, semaphores, events, barriers, queues, executors,
               timers, streams, files, names, processes, forks, signals, deep_stack):
    print(part.__name__, part(), flush=True)
  assert threading.active_count() == 1, threading.enumerate()
  print("threads left", threading.active_count())


main()
