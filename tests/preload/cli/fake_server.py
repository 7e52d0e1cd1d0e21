#!/usr/bin/python3
# fake_server.py - a server with a fault to order, for compare_test.py.
# Usage: fake_server.py PORT|PATH [FAULT]. It answers each connection `native` or `weft`, by
# whether a library is preloaded, and writes its process id to $PID_FILE.
# Faults: dies, silent (never listens), deaf (ignores SIGTERM), daemon (forks, the parent leaves),
# dies-later (at the first line that a client sends), crowd (a child and 9 threads), says
# (`weft: ...`), crashes (at SIGTERM).
# SPDX-License-Identifier: Apache-2.0
import os
import signal
import socket
import sys
import threading


def wait_for_ever():
    while True:
        signal.pause()


def serve(listener, fault):
    answer = b"weft\n" if os.environ.get("LD_PRELOAD") else b"native\n"
    while True:
        client, _ = listener.accept()
        with client:
            if fault == "dies-later" and client.recv(10):
                os._exit(4)
            try:
                client.sendall(answer)
            except OSError:
                # The one who asks whether the port is open does not stay for the answer.
                continue


def main():
    address, fault = sys.argv[1], (sys.argv + [""])[2]
    if fault == "dies":
        sys.exit("fake server: no configuration")
    if fault == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if fault == "crashes":
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGSEGV))
    if fault == "says" and os.environ.get("LD_PRELOAD"):
        print("weft: this machine is slow", flush=True)
    if fault == "daemon" and os.fork() != 0:
        os._exit(0)
    if fault == "daemon":
        os.setsid()
    with open(os.environ["PID_FILE"], "w") as file:
        file.write(str(os.getpid()))
    if fault == "silent":
        print("fake server: waiting for nothing", flush=True)
        wait_for_ever()
    if fault == "crowd":
        for _ in range(9):
            threading.Thread(target=wait_for_ever_in_thread, daemon=True).start()
        if os.fork() == 0:
            wait_for_ever()
    if address.isdigit():
        listener = socket.create_server(("127.0.0.1", int(address)), backlog=100)
    else:
        listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(address):
            os.unlink(address)
        listener.bind(address)
        listener.listen()
    # A signal handler runs in the main thread, which must not sit in accept().
    threading.Thread(target=serve, args=(listener, fault), daemon=True).start()
    wait_for_ever()


def wait_for_ever_in_thread():
    threading.Event().wait()


main()
