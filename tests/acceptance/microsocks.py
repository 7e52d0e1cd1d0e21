#!/usr/bin/python3
# microsocks.py - acceptance: 200 concurrent transfers of 1 MiB through the SOCKS5 proxy.
#
# A thread with a small stack for each connection, which resolves the name (getaddrinfo) itself.
# All tunnels stand before the first client asks; every SHA-256 is checked. Ended by SIGTERM.
# SPDX-License-Identifier: Apache-2.0
import clients
import harness
from process import free_port

MICROSOCKS = "/usr/bin/microsocks"
TRANSFERS = 200
CONTENT = clients.pattern(1 << 20, 2)
backend = {}


def prepare(run):
  backend["port"] = clients.start_file_server(run, {"file": CONTENT})


def transfer(port, index, gate):
  host = "localhost" if index % 2 else "127.0.0.1"
  http = clients.HttpClient(clients.socks_connect(port, host, backend["port"]))
  gate.pass_through()
  status, body = http.get("/file", close=True)
  http.close()
  if status != 200 or body != CONTENT:
    raise harness.Failure(f"status {status}, {len(body)} bytes, SHA-256 {clients.sha256(body)}")
  return clients.sha256(body)


def refusal(port):
  """What the proxy says about a target where nobody listens."""
  try:
    clients.socks_connect(port, "127.0.0.1", 1).close()
  except harness.Failure as error:
    return str(error)
  return "connected to a closed port"


def case(run):
  port = free_port()
  server = run.start(MICROSOCKS, "-i", "127.0.0.1", "-p", port)
  server.wait_port(port)
  gate = clients.Gate(TRANSFERS)
  digests = clients.together(TRANSFERS, lambda index: transfer(port, index, gate))
  return {"digests": sorted(set(digests)), "refusal": refusal(port), "status": server.stop()}


harness.main("microsocks", case, needs=[MICROSOCKS, clients.NGINX], prepare=prepare,
             native_threads=TRANSFERS // 2)
