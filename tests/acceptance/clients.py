# clients.py - the native side of the tests: HTTP and SOCKS clients, and an nginx to talk to.
#
# Everything here runs in the test's own process or natively, so that only the program between is
# under weft. A reply that is late, short or wrong raises Failure. Imported by the scripts.
# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import random
import socket
import threading

from process import Failure, free_port

SECONDS = 20


def pattern(size, seed):
  """`size` bytes that look random and are the same in every run."""
  return random.Random(seed).randbytes(size)


def sha256(content):
  return hashlib.sha256(content).hexdigest()


def connect(port):
  connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
  connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  return connection


def read_exactly(connection, size):
  content = bytearray()
  while len(content) < size:
    piece = connection.recv(min(size - len(content), 1 << 18))
    if not piece:
      raise Failure(f"connection closed after {len(content)} of {size} bytes")
    content += piece
  return bytes(content)


def socks_connect(proxy_port, host, port):
  """A connection through a SOCKS5 proxy; `host` is a name, which the proxy resolves."""
  connection = connect(proxy_port)
  connection.sendall(b"\x05\x01\x00")
  if read_exactly(connection, 2) != b"\x05\x00":
    raise Failure("the SOCKS proxy refused the greeting")
  name = host.encode()
  connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
  reply = read_exactly(connection, 10)
  if reply[1] != 0:
    raise Failure(f"the SOCKS proxy answered {reply[1]} to a connect")
  return connection


class HttpClient:
  """HTTP/1.1 on one connection, which is kept open until `close` is asked for."""

  def __init__(self, connection):
    self.connection = connection
    self.buffer = b""

  def get(self, target, host="localhost", close=False):
    """Returns (status, body): Content-Length bytes, or without it all until the end."""
    end = "Connection: close\r\n" if close else ""
    self.connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{end}\r\n".encode())
    # A server that writes head and body apart waits (Nagle) for our delayed acknowledgement.
    self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    while b"\r\n\r\n" not in self.buffer:
      piece = self.connection.recv(1 << 16)
      if not piece:
        raise Failure(f"connection closed in the head of the reply to {target}")
      self.buffer += piece
    head, _, body = self.buffer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {k.lower(): v.strip() for k, _, v in (l.partition(":") for l in lines[1:])}
    if "content-length" not in fields:
      while piece := self.connection.recv(1 << 16):
        body += piece
      return int(lines[0].split()[1]), body
    size = int(fields["content-length"])
    self.buffer = body[size:]
    if len(body) < size:
      body += read_exactly(self.connection, size - len(body))
    return int(lines[0].split()[1]), body[:size]

  def close(self):
    self.connection.close()


def together(count, work, seconds=50):
  """Runs work(0) .. work(count - 1), each in a thread; returns their results in order.

  The first failure is raised, with the number of clients that failed.
  """
  results, errors = [None] * count, []

  def body(index):
    try:
      results[index] = work(index)
    except Exception as error:  # a client may fail in any way: all are the program's doing
      errors.append(f"client {index}: {type(error).__name__}: {error}")

  threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(count)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(seconds)
    if thread.is_alive():
      raise Failure(f"a client was not served in {seconds} seconds; {errors[:2]}")
  if errors:
    raise Failure(f"{len(errors)} of {count} clients failed; {errors[0]}")
  return results


class Gate:
  """Holds `count` clients until all of them are connected, so that they really are concurrent."""

  def __init__(self, count):
    self.barrier = threading.Barrier(count)

  def pass_through(self):
    try:
      self.barrier.wait(SECONDS)
    except threading.BrokenBarrierError:
      raise Failure("not all clients got a connection") from None


NGINX = "/usr/sbin/nginx"


def nginx_config(run, port, root, master="off", workers=1):
  """Writes a configuration that needs nothing outside the run's directory; returns its path."""
  scratch = "\n".join(f"{kind}_temp_path {run.path('scratch-' + kind)};" for kind in
                      ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
  user = "user www-data;" if os.getuid() == 0 else ""
  return run.write("nginx.conf", f"""
daemon off; master_process {master}; worker_processes {workers}; {user}
pid {run.path('nginx.pid')}; error_log {run.path('nginx.log')};
events {{ worker_connections 2000; }}
http {{
  access_log off; default_type application/octet-stream; keepalive_requests 100000;
  {scratch}
  server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }}
}}
""")


def start_file_server(run, files):
  """Starts a native nginx that serves `files` ({name: content}); returns its port."""
  for name, content in files.items():
    run.write("www/" + name, content)
  port = free_port()
  server = run.start(NGINX, "-e", "stderr", "-c", nginx_config(run, port, run.path("www")),
                     native=True)
  server.wait_port(port)
  return port
