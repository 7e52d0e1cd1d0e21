#!/usr/bin/python3
# python_socketserver.py - acceptance: threaded TCP, UDP and Unix servers of Python's socketserver.
#
# 40 clients on each stream server at once, 20 on the datagram server; each answer is checked.
# Ended by SIGTERM, which the guest takes with sigwait.
# SPDX-License-Identifier: Apache-2.0
import os
import socket

import clients
import harness
from process import free_port

PYTHON = "/usr/bin/python3"
GUEST = os.path.join(harness.HERE, "guests", "socketserver_guest.py")
STREAMS, DATAGRAMS, LINES = 40, 20, 50


def stream_client(connection, index, gate):
  with connection, connection.makefile("rb") as replies:
    gate.pass_through()
    for number in range(LINES):
      line = b"client %d line %d\n" % (index, number)
      connection.sendall(line)
      reply = replies.readline().decode().strip()
      if reply != clients.sha256(line):
        raise harness.Failure(f"line {number} got the answer {reply!r}")


def unix_connect(path):
  connection = socket.socket(socket.AF_UNIX)
  connection.settimeout(clients.SECONDS)
  connection.connect(path)
  return connection


def datagram_client(port, index):
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(clients.SECONDS)
    sock.connect(("127.0.0.1", port))
    for number in range(LINES):
      request = b"datagram %d %d" % (index, number)
      sock.send(request)
      if sock.recv(200).decode().strip() != clients.sha256(request):
        raise harness.Failure(f"datagram {number} got a wrong answer")


def case(run):
  tcp_port, udp_port, path = free_port(), free_port(), run.path("socket")
  server = run.start(PYTHON, "-B", GUEST, tcp_port, udp_port, path)
  server.wait_until(lambda: b"ready" in server.out, "ready")
  gate = clients.Gate(2 * STREAMS)

  def client(index):
    if index < STREAMS:
      stream_client(clients.connect(tcp_port), index, gate)
    elif index < 2 * STREAMS:
      stream_client(unix_connect(path), index, gate)
    else:
      datagram_client(udp_port, index)
  clients.together(2 * STREAMS + DATAGRAMS, client)
  return {"status": server.stop(), "output": server.out, "errors": server.err}


harness.main("python_socketserver", case, needs=[PYTHON], native_threads=STREAMS)
