#!/usr/bin/python3
# mariadb.py - acceptance: Debian's mariadbd with its default settings (native AIO included).
#
# In each pass: install a data directory; seeded transactions of one client and 64 mariadb-slap
# clients, whose effects commute, end in tables whose checksums and row counts are compared with
# the native ones; 64 clients of sysbench oltp_read_write, bounded by events, must
# keep every table sound; SIGTERM must bring a clean shutdown; a second start finds the same
# checksums. The clients run natively.
# SPDX-License-Identifier: Apache-2.0
import os
import random
import re

import clients
import harness
from process import free_port

MARIADBD = "/usr/sbin/mariadbd"
CLIENTS = 64
SLAP_QUERIES = CLIENTS * 48
NEEDS = [MARIADBD, "/usr/bin/mariadb-install-db", "/usr/bin/mariadb", "/usr/bin/mariadb-slap",
         "/usr/bin/sysbench"]
SCHEMA = """
CREATE DATABASE bank; USE bank;
CREATE TABLE account (id INT PRIMARY KEY, balance BIGINT NOT NULL, touched INT NOT NULL DEFAULT 0);
INSERT INTO account (id, balance) SELECT seq, 1000 FROM seq_1_to_50;
CREATE TABLE entry (id INT AUTO_INCREMENT PRIMARY KEY, note CHAR(40) NOT NULL) ENGINE=InnoDB;
CREATE TABLE counter (id INT PRIMARY KEY, n BIGINT NOT NULL) ENGINE=Aria;
INSERT INTO counter VALUES (1, 0);
CREATE DATABASE seeded; USE seeded;
CREATE TABLE item (id INT PRIMARY KEY, k INT NOT NULL, word VARCHAR(120) NOT NULL, blurb TEXT,
                   KEY (k)) ENGINE=InnoDB;
INSERT INTO item SELECT seq, seq % 97, SHA2(seq, 256), REPEAT(MD5(seq), 40) FROM seq_1_to_2000;
CREATE DATABASE sbtest;
"""
# Each of these adds the same whatever the order of the clients.
SLAP = ("UPDATE account SET balance = balance + 3, touched = touched + 1 WHERE id = 7",
        "INSERT INTO entry (note) VALUES (REPEAT('weft', 8))",
        "UPDATE counter SET n = n + 1 WHERE id = 1")
CHECKED = "bank.account, bank.entry, bank.counter, seeded.item, sbtest.sbtest1, sbtest.sbtest2"
SUMMED = "bank.account, bank.entry, bank.counter, seeded.item"


class Server:
  def __init__(self, run):
    self.run = run
    self.port = free_port()
    self.socket = run.path("mariadb.sock")
    self.log = run.path("mariadb.log")
    self.user = ["--user=root"] if os.getuid() == 0 else []
    self.program = None
    self.starts = 0

  def install(self):
    self.run.call("/usr/bin/mariadb-install-db", "--no-defaults", *self.user,
                  f"--datadir={self.run.path('data')}", "--skip-test-db",
                  "--auth-root-authentication-method=normal", status=0)

  def start(self):
    self.program = self.run.start(
        MARIADBD, "--no-defaults", *self.user, f"--datadir={self.run.path('data')}",
        f"--socket={self.socket}", f"--port={self.port}", "--bind-address=127.0.0.1",
        f"--log-error={self.log}", f"--pid-file={self.run.path('mariadb.pid')}")
    self.program.wait_port(self.port, 40)
    self.starts += 1
    ready = b"mariadbd: ready for connections"
    self.program.wait_until(lambda: self.said().count(ready) == self.starts, "ready", 40)

  def said(self):
    with open(self.log, "rb") as file:
      return file.read()

  def ask(self, query):
    script = self.run.write("query.sql", query)
    return self.run.native("/usr/bin/mariadb", "--no-defaults", "-uroot", "-S", self.socket, "-N",
                           "-B", stdin=script).out.decode()

  def sysbench(self, command, threads, events):
    output = self.run.native(
        "/usr/bin/sysbench", "--db-driver=mysql", f"--mysql-socket={self.socket}",
        "--mysql-user=root", "--mysql-db=sbtest", "--tables=2", "--table-size=2000",
        f"--threads={threads}", f"--events={events}", "--time=0", "oltp_read_write", command)
    done = re.search(r"transactions: +(\d+)", output.out.decode())
    return int(done.group(1)) if done else None

  def slap(self):
    self.run.native("/usr/bin/mariadb-slap", "--no-defaults", "-uroot", "-S", self.socket,
                    "--create-schema=bank", "--no-drop", "--delimiter=;",
                    "--query=" + ";".join(SLAP), f"--concurrency={CLIENTS}",
                    f"--number-of-queries={SLAP_QUERIES}", "--iterations=1")


def seeded_transactions(count):
  """SQL whose every answer is known in advance: one client, one seed."""
  draw = random.Random(42).randrange
  script = ["USE seeded;"]
  for number in range(count):
    first = draw(1, 1900)
    script += [
        "BEGIN;",
        f"SELECT word FROM item WHERE id BETWEEN {first} AND {first + 50} ORDER BY word;",
        f"SELECT SUM(k), COUNT(DISTINCT word) FROM item WHERE k = {draw(97)};",
        f"UPDATE item SET k = k + 1, blurb = REPEAT(SHA1({number}), {draw(1, 60)}) "
        f"WHERE id = {draw(1, 2001)};",
        f"DELETE FROM item WHERE id = {first};",
        f"INSERT INTO item VALUES ({first}, {draw(97)}, SHA2({number}, 256), MD5({number}));",
        "ROLLBACK;" if number % 10 == 9 else "COMMIT;",
    ]
  return "\n".join(script)


def case(run):
  server = Server(run)
  server.install()
  server.start()
  answers = {"native AIO": server.ask("SELECT @@innodb_use_native_aio")}
  server.ask(SCHEMA)
  answers["seeded"] = clients.sha256(server.ask(seeded_transactions(400)).encode())
  server.slap()
  server.sysbench("prepare", 1, 0)
  answers["transactions"] = server.sysbench("run", CLIENTS, 1000)
  run.expect(answers["transactions"] == 1000, f"{answers['transactions']} of 1000 transactions")

  check = server.ask(f"CHECK TABLE {CHECKED} EXTENDED")
  run.expect(check.count("\tstatus\tOK\n") == CHECKED.count(",") + 1, f"CHECK TABLE: {check}")
  answers["checksums"] = server.ask(f"CHECKSUM TABLE {SUMMED}")
  answers["rows"] = server.ask(
      "SELECT (SELECT COUNT(*) FROM bank.entry), (SELECT n FROM bank.counter), "
      "(SELECT SUM(balance) FROM bank.account), (SELECT COUNT(*) FROM seeded.item), "
      "(SELECT COUNT(*) FROM sbtest.sbtest1), (SELECT COUNT(*) FROM sbtest.sbtest2)")
  answers["status"] = server.program.stop(seconds=40)
  run.expect(server.said().count(b"mariadbd: Shutdown complete\n") == 1,
             "no clean shutdown in the log")

  server.start()
  again = server.ask(f"CHECKSUM TABLE {SUMMED}")
  run.expect(again == answers["checksums"], f"after a restart the checksums are {again}")
  run.expect(b"Starting crash recovery" not in server.said(), "the shutdown was not clean")
  answers["status again"] = server.program.stop(seconds=40)
  answers["errors logged"] = re.findall(rb"\[ERROR\][^\n]*", server.said())
  return answers


harness.main("mariadb", case, needs=NEEDS, pool=32, native_threads=50, seconds=150)
