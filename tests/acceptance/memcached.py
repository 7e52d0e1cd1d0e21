#!/usr/bin/python3
# memcached.py - acceptance, slow: memcached with 16 threads, 50 clients that check every value.
#
# Skipped where memcached is not installed. Ended by SIGTERM.
# SPDX-License-Identifier: Apache-2.0
import os

import clients
import harness
from process import free_port

MEMCACHED = "/usr/bin/memcached"
CLIENTS, KEYS = 50, 100


def client(port, index, gate):
  """Sets, gets, increments and deletes its own keys; returns the final value of its counter."""
  connection = clients.connect(port)
  gate.pass_through()
  with connection, connection.makefile("rb") as replies:
    def ask(request):
      connection.sendall(request)
      return replies.readline().strip()
    for number in range(KEYS):
      key = b"key-%d-%d" % (index, number)
      value = clients.pattern(1 + number * 37, index * KEYS + number)
      stored = ask(b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value))
      head = ask(b"get %b\r\n" % key)
      got, end = replies.read(len(value) + 2), replies.readline().strip()
      if (stored, head, got, end) != (b"STORED", b"VALUE %b 0 %d" % (key, len(value)),
                                      value + b"\r\n", b"END"):
        raise harness.Failure(f"key {number}: {stored!r} {head!r} {end!r}")
      if number % 2 and ask(b"delete %b\r\n" % key) != b"DELETED":
        raise harness.Failure(f"key {number} was not deleted")
      ask(b"add shared 0 0 1\r\n0\r\n")
      ask(b"incr shared 1\r\n")
  return KEYS


def case(run):
  port = free_port()
  user = ["-u", "nobody"] if os.getuid() == 0 else []
  server = run.start(MEMCACHED, "-l", "127.0.0.1", "-p", port, "-t", 16, "-m", 64, *user)
  server.wait_port(port)
  gate = clients.Gate(CLIENTS)
  done = clients.together(CLIENTS, lambda index: client(port, index, gate))
  with clients.connect(port) as connection, connection.makefile("rb") as replies:
    connection.sendall(b"get shared\r\n")
    answer = [replies.readline() for _ in range(3)]
  return {"keys": sum(done), "shared": answer, "status": server.stop()}


harness.main("memcached", case, needs=[MEMCACHED], native_threads=17)
