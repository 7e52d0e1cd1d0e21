#!/usr/bin/python3
# tinyproxy.py - acceptance: 200 concurrent transfers of 1 MiB through tinyproxy.
#
# A thread for each connection. All clients are connected before the first asks; every SHA-256
# is checked. Also a tunnel (CONNECT) and a refused target. Ended by SIGTERM.
# SPDX-License-Identifier: Apache-2.0
import clients
import harness
from process import free_port

TINYPROXY = "/usr/bin/tinyproxy"
TRANSFERS = 200
CONTENT = clients.pattern(1 << 20, 1)
backend = {}


def prepare(run):
  backend["port"] = clients.start_file_server(run, {"file": CONTENT})


def transfer(port, gate):
  http = clients.HttpClient(clients.connect(port))
  gate.pass_through()
  status, body = http.get(f"http://127.0.0.1:{backend['port']}/file", close=True)
  http.close()
  if status != 200 or body != CONTENT:
    raise harness.Failure(f"status {status}, {len(body)} bytes, SHA-256 {clients.sha256(body)}")
  return clients.sha256(body)


def tunnel(port):
  """A CONNECT tunnel, on which two requests are made."""
  connection = clients.connect(port)
  connection.sendall(f"CONNECT 127.0.0.1:{backend['port']} HTTP/1.0\r\n\r\n".encode())
  head = b""
  while not head.endswith(b"\r\n\r\n"):
    head += clients.read_exactly(connection, 1)
  http = clients.HttpClient(connection)
  answers = [http.get("/file"), http.get("/missing")]
  http.close()
  return head.split(b"\r\n")[0], [(s, clients.sha256(b)) for s, b in answers]


def case(run):
  port = free_port()
  config = run.write("tinyproxy.conf", f"""
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 500
LogLevel Warning
LogFile "{run.path('tinyproxy.log')}"
Allow 127.0.0.1
ConnectPort {backend['port']}
""")
  server = run.start(TINYPROXY, "-d", "-c", config)
  server.wait_port(port)
  gate = clients.Gate(TRANSFERS)
  digests = clients.together(TRANSFERS, lambda _: transfer(port, gate))
  http = clients.HttpClient(clients.connect(port))
  refused, _ = http.get("http://127.0.0.1:1/", close=True)
  http.close()
  return {"digests": sorted(set(digests)), "tunnel": tunnel(port), "refused": refused,
          "status": server.stop()}


harness.main("tinyproxy", case, needs=[TINYPROXY, clients.NGINX], prepare=prepare,
             native_threads=TRANSFERS // 2)
