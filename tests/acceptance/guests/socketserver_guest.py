# socketserver_guest.py - guest: threaded TCP, UDP and Unix servers of Python's socketserver.
#
# usage: socketserver_guest.py TCP_PORT UDP_PORT UNIX_PATH. The stream servers answer each line
# with its SHA-256, the datagram server each datagram. Prints "ready" when all listen; ended by
# SIGTERM, upon which it shuts all three down in order, prints the totals and exits with 0.
# Run by python_socketserver.py, natively and under weft.
# SPDX-License-Identifier: Apache-2.0
import hashlib
import signal
import socketserver
import sys
import threading

totals = {"tcp": 0, "udp": 0, "unix": 0}
lock = threading.Lock()


def answer(kind, request):
  with lock:
    totals[kind] += 1
  return hashlib.sha256(request).hexdigest().encode() + b"\n"


class Lines(socketserver.StreamRequestHandler):
  def handle(self):
    for line in self.rfile:
      self.wfile.write(answer(self.server.kind, line))


class Datagrams(socketserver.BaseRequestHandler):
  def handle(self):
    request, sock = self.request
    sock.sendto(answer(self.server.kind, request), self.client_address)


def serve(server, kind):
  server.kind = kind
  thread = threading.Thread(target=server.serve_forever, name=kind)
  thread.start()
  return server, thread


def main():
  for kind in (socketserver.ThreadingTCPServer, socketserver.ThreadingUnixStreamServer):
    kind.request_queue_size = 128
    kind.allow_reuse_address = True
  tcp_port, udp_port, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
  # Blocked before any thread exists, so that only sigwait below can take it.
  signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
  running = [
      serve(socketserver.ThreadingTCPServer(("127.0.0.1", tcp_port), Lines), "tcp"),
      serve(socketserver.ThreadingUDPServer(("127.0.0.1", udp_port), Datagrams), "udp"),
      serve(socketserver.ThreadingUnixStreamServer(path, Lines), "unix"),
  ]
  print("ready", flush=True)
  print("signal", signal.sigwait({signal.SIGTERM}).name)
  for server, thread in running:
    server.shutdown()
    server.server_close()  # joins the threads of its requests
    thread.join()
  print(totals, "threads left", threading.active_count())


main()
