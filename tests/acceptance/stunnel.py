#!/usr/bin/python3
# stunnel.py - acceptance, slow: stunnel4 at both ends of a TLS tunnel, before a native nginx.
#
# A thread for each connection at each end. 60 clients at once, every body checked; TLS is also
# spoken to the server end directly by Python's native ssl. Both ended by SIGTERM.
# SPDX-License-Identifier: Apache-2.0
import ssl

import clients
import harness
from process import free_port

STUNNEL, OPENSSL = "/usr/bin/stunnel4", "/usr/bin/openssl"
CLIENTS, REQUESTS = 60, 10
FILES = {"small": clients.pattern(100, 11), "big": clients.pattern(1 << 20, 12)}
backend = {}


def prepare(run):
  backend["port"] = clients.start_file_server(run, FILES)
  run.native(OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost", "-days", "2",
             "-keyout", run.path("key.pem"), "-out", run.path("certificate.pem"))
  backend["key"], backend["certificate"] = run.path("key.pem"), run.path("certificate.pem")


def start(run, name, client, accept, connect):
  verify = "" if client == "no" else f"CAfile = {backend['certificate']}\nverifyPeer = yes\n"
  config = run.write(f"{name}.conf", f"""
foreground = yes
pid =
debug = err
output = {run.path(name + '.log')}
socket = l:SO_REUSEADDR=1
[tunnel]
client = {client}
accept = 127.0.0.1:{accept}
connect = 127.0.0.1:{connect}
cert = {backend['certificate']}
key = {backend['key']}
{verify}""")
  program = run.start(STUNNEL, config)
  program.wait_port(accept)
  return program


def client(connection, gate=None):
  http = clients.HttpClient(connection)
  if gate:
    gate.pass_through()
  digests = []
  for number in range(REQUESTS):
    name = "big" if number == REQUESTS - 1 else "small"
    status, body = http.get("/" + name)
    if status != 200 or body != FILES[name]:
      raise harness.Failure(f"request {number} for {name}: status {status}, {len(body)} bytes")
    digests.append(clients.sha256(body))
  http.close()
  return digests


def direct(port):
  context = ssl.create_default_context(cafile=backend["certificate"])
  with context.wrap_socket(clients.connect(port), server_hostname="localhost") as connection:
    return connection.version(), client(connection)


def case(run):
  outer, inner = free_port(), free_port()
  far = start(run, "server", "no", inner, backend["port"])
  near = start(run, "client", "yes", outer, inner)
  gate = clients.Gate(CLIENTS)
  digests = clients.together(CLIENTS, lambda _: client(clients.connect(outer), gate))
  churn = clients.together(20, lambda _: [client(clients.connect(outer)) for _ in range(5)])
  return {"digests": sorted(set(sum(digests, []))), "churn": len(churn), "direct": direct(inner),
          "status": (near.stop(), far.stop())}


harness.main("stunnel", case, needs=[STUNNEL, OPENSSL, clients.NGINX], prepare=prepare,
             native_threads=CLIENTS // 2, seconds=90)
