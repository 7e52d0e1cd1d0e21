#!/usr/bin/python3
# redis.py - acceptance, do no harm: redis-server with its background threads, BGSAVE and AOF.
#
# The clients are native. What they wrote must be there after BGSAVE (a fork of a process with
# threads), SIGTERM and a second start. That one has io-threads, which spin as well as wait: on
# one worker they live by preemption alone, so they get a light load.
# SPDX-License-Identifier: Apache-2.0
import re

import harness
from process import free_port

SERVER, CLIENT = "/usr/bin/redis-server", "/usr/bin/redis-cli"
BENCHMARK = "/usr/bin/redis-benchmark"


def start(run, port, *arguments):
  server = run.start(SERVER, "--port", port, "--bind", "127.0.0.1", "--dir", run.path("data"),
                     "--save", "", "--appendonly", "yes", "--enable-debug-command", "local",
                     *arguments)
  server.wait_until(lambda: b"Ready to accept connections" in server.out, "ready")
  return server


def case(run):
  port = free_port()

  def ask(*command):
    return run.native(CLIENT, "-p", port, *command).out.decode().strip()
  run.native("/bin/mkdir", run.path("data"))
  server = start(run, port)
  answers = {"set": ask("SET", "key", "value"), "get": ask("GET", "key"),
             "list": ask("RPUSH", "list", "a", "b", "c"), "range": ask("LRANGE", "list", "0", "-1"),
             "blocked": ask("BLPOP", "nothing", "0.2"),
             "lua": ask("EVAL", "return redis.call('INCRBY', KEYS[1], 41) + 1", "1", "n"),
             "wrong": ask("INCR", "list")}
  # -r 1: every client writes the same keys, so that the data set is the same in each pass.
  done = run.native(BENCHMARK, "-p", port, "-n", "10000", "-c", "50", "-P", "4", "-q", "-r", "1",
                    "-t", "set,get,incr,lpush,sadd,hset", seconds=60)
  answers["tests"] = len(re.findall(rb"requests per second", done.out))
  answers["bgsave"] = ask("BGSAVE")
  server.wait_until(lambda: "rdb_bgsave_in_progress:0" in ask("INFO", "persistence"), "BGSAVE done")
  answers["saved"] = re.findall(r"rdb_last_bgsave_status:\w+", ask("INFO", "persistence"))
  answers["rewrite"] = ask("BGREWRITEAOF")
  server.wait_until(lambda: "aof_rewrite_in_progress:0" in ask("INFO", "persistence") and
                    "aof_rewrite_scheduled:0" in ask("INFO", "persistence"), "AOF rewritten")
  answers["flush"] = ask("UNLINK", "mylist")
  answers["digest"] = ask("DEBUG", "DIGEST")
  answers["status"] = server.stop()
  run.expect(b"Redis is now ready to exit, bye bye" in server.out, "no farewell in the log")

  server = start(run, port, "--io-threads", "2")
  run.expect(ask("DEBUG", "DIGEST") == answers["digest"], "the data differ after a restart")
  done = run.native(BENCHMARK, "-p", port, "-n", "300", "-c", "20", "-q", "-t", "get", seconds=40)
  answers["spinning"] = len(re.findall(rb"requests per second", done.out))
  answers["keys"] = sorted(ask("KEYS", "*").split())
  answers["status again"] = server.stop()
  return answers


harness.main("redis", case, needs=[SERVER, CLIENT, BENCHMARK])
