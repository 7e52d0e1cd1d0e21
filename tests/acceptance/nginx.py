#!/usr/bin/python3
# nginx.py - acceptance, do no harm: nginx, a master and two workers, without threads.
#
# 50 native clients, every body checked; a reload by SIGHUP in between; ended by SIGQUIT.
# SPDX-License-Identifier: Apache-2.0
import signal

import clients
import harness
from process import descendants, free_port

FILES = {"small": clients.pattern(500, 9), "big": clients.pattern(1 << 20, 10)}


def client(port, index, gate):
  http = clients.HttpClient(clients.connect(port))
  gate.pass_through()
  for number in range(40):
    name = "big" if (index + number) % 10 == 0 else "small"
    status, body = http.get("/" + name)
    if status != 200 or body != FILES[name]:
      raise harness.Failure(f"request {number} for {name}: status {status}, {len(body)} bytes")
  status, _ = http.get("/missing", close=True)
  http.close()
  return status


def case(run):
  for name, content in FILES.items():
    run.write("www/" + name, content)
  port = free_port()
  config = clients.nginx_config(run, port, run.path("www"), master="on", workers=2)
  tested = run.call(clients.NGINX, "-t", "-q", "-e", "stderr", "-c", config)
  server = run.start(clients.NGINX, "-e", "stderr", "-c", config)
  server.wait_port(port)
  load = lambda: sorted(set(clients.together(50, lambda i: client(port, i, gate))))
  gate = clients.Gate(50)
  answers = {"test": (tested.status, tested.out, tested.err), "before": load()}
  server.wait_until(lambda: len(descendants(server.pid)) == 2, "two workers")
  workers = set(descendants(server.pid))
  signal.pidfd_send_signal(server.pidfd, signal.SIGHUP)
  server.wait_until(lambda: len(set(descendants(server.pid)) - workers) == 2 and
                    not set(descendants(server.pid)) & workers, "new workers after SIGHUP")
  gate = clients.Gate(50)
  answers["after"] = load()
  answers["status"] = server.stop(signal.SIGQUIT)
  answers["errors"] = server.err
  return answers


harness.main("nginx", case, needs=[clients.NGINX])
