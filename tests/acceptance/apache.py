#!/usr/bin/python3
# apache.py - acceptance, slow: apache2 with mpm_worker, whose children drop root for www-data.
#
# A prefork of children, each with a listener and 64 threads. 50 native clients, every body
# checked; a graceful restart (SIGUSR1) in between; ended by SIGTERM.
# SPDX-License-Identifier: Apache-2.0
import os
import re
import signal

import clients
import harness
from process import descendants, free_port

APACHE, MODULES = "/usr/sbin/apache2", "/usr/lib/apache2/modules"
CLIENTS = 50
FILES = {"small": clients.pattern(500, 13), "big": clients.pattern(2 << 20, 14)}


def configuration(run, port):
  user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
  return run.write("apache.conf", f"""
ServerRoot {run.directory}
PidFile {run.path('apache.pid')}
ServerName localhost
Listen 127.0.0.1:{port}
{user}
ErrorLog {run.path('error.log')}
DefaultRuntimeDir {run.directory}
LoadModule mpm_worker_module {MODULES}/mod_mpm_worker.so
LoadModule authz_core_module {MODULES}/mod_authz_core.so
StartServers 2
ServerLimit 4
MinSpareThreads 64
MaxSpareThreads 256
ThreadLimit 64
ThreadsPerChild 64
MaxRequestWorkers 128
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 20
DocumentRoot {run.path('www')}
<Directory {run.path('www')}>
Require all granted
</Directory>
""")


def client(port, index, gate):
  http = clients.HttpClient(clients.connect(port))
  gate.pass_through()
  for number in range(50):
    name = "big" if (index + number) % 25 == 0 else "small"
    status, body = http.get("/" + name)
    if status != 200 or body != FILES[name]:
      raise harness.Failure(f"request {number} for {name}: status {status}, {len(body)} bytes")
  status, body = http.get("/missing", close=True)
  http.close()
  return status, body


def case(run):
  for name, content in FILES.items():
    run.write("www/" + name, content)
  port = free_port()
  server = run.start(APACHE, "-f", configuration(run, port), "-DFOREGROUND")
  server.wait_port(port)
  answers = {}
  for name in ("before", "after"):
    gate = clients.Gate(CLIENTS)
    got = clients.together(CLIENTS, lambda i: client(port, i, gate))
    # The error page names the port, which is another one in each pass.
    answers[name] = sorted({(s, re.sub(rb"Port \d+", b"", b)) for s, b in got})
    if name == "before":
      old = set(descendants(server.pid))
      signal.pidfd_send_signal(server.pidfd, signal.SIGUSR1)
      server.wait_until(lambda: not set(descendants(server.pid)) & old, "new children")
  answers["status"] = server.stop()
  with open(run.path("error.log"), encoding="utf-8") as file:
    log = file.read()
  answers["restarted"] = log.count("Graceful restart requested")
  answers["ended"] = log.count("caught SIGTERM, shutting down")
  answers["crashed"] = re.findall(r"exit signal .*", log)
  return answers


harness.main("apache", case, needs=[APACHE, f"{MODULES}/mod_mpm_worker.so"], pool=16,
             native_threads=60, seconds=90)
