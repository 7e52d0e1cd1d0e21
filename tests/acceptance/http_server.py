#!/usr/bin/python3
# http_server.py - acceptance: Debian's `python3 -m http.server`, 50 clients x 200 requests.
#
# A thread for each connection (ThreadingHTTPServer), HTTP/1.1 with connections kept open and one
# closed every 50 requests. Every status and body is checked; ended by SIGINT as a user would.
# SPDX-License-Identifier: Apache-2.0
import signal

import clients
import harness
from process import free_port

PYTHON = "/usr/bin/python3"
CLIENTS = 50
REQUESTS = 200
FILES = {f"file-{i}": clients.pattern(size, i) for i, size in
         enumerate((0, 1, 100, 4096, 20000, 70000))}


def client(port, index, gate):
  """One client's requests; the number of bytes it got, all of them right."""
  http = clients.HttpClient(clients.connect(port))
  gate.pass_through()
  received = 0
  for number in range(REQUESTS):
    name = f"file-{(index + number) % len(FILES)}"
    close = number % 50 == 49
    status, body = http.get("/" + name, close=close)
    if status != 200 or body != FILES[name]:
      raise harness.Failure(f"request {number} for {name}: status {status}, {len(body)} bytes")
    received += len(body)
    if close:
      http.close()
      http = clients.HttpClient(clients.connect(port))
  status, _ = http.get("/missing", close=True)
  http.close()
  return received, status


def case(run):
  for name, content in FILES.items():
    run.write("www/" + name, content)
  port = free_port()
  server = run.start(PYTHON, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--protocol",
                     "HTTP/1.1", "--directory", run.path("www"), port)
  server.wait_port(port)
  gate = clients.Gate(CLIENTS)
  received = clients.together(CLIENTS, lambda index: client(port, index, gate))
  return {"received": received, "status": server.stop(signal.SIGINT),
          "logged 200": server.err.count(b'" 200 -'), "logged 404": server.err.count(b'" 404 -'),
          "farewell": b"Keyboard interrupt received, exiting." in server.out}


harness.main("http_server", case, needs=[PYTHON], native_threads=CLIENTS // 3)
