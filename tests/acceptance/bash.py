#!/usr/bin/python3
# bash.py - acceptance, do no harm: a shell script of jobs, pipes, traps and signals.
#
# Starts no thread: output and status must be the native ones, byte for byte.
# SPDX-License-Identifier: Apache-2.0
import re

import harness

BASH = "/bin/bash"
SCRIPT = r"""
set -u
for i in $(seq 50); do (echo $i) & done | sort -n | md5sum
wait
trap 'echo trapped TERM' TERM
kill $$
trap 'echo trapped USR1' USR1
(kill -USR1 $$); wait
sleep 60 & child=$!; kill -KILL $child; wait $child; echo "killed: $?"
(exit 7) & wait $!; echo "job: $?"
false | true | (exit 3); echo "pipe: ${PIPESTATUS[*]}"
coproc cat; echo through >&${COPROC[1]}; read -r line <&${COPROC[0]}; echo "coproc $line"
exec {fd}>file; echo text >&$fd; exec {fd}>&-; cat file
read -r first < <(seq 1000); echo "first $first"
seq 100000 | head -n 1; echo "head: ${PIPESTATUS[*]}"
cat <<< "here $(echo $((6 * 7)))"
timeout 0.2 sleep 60; echo "timeout: $?"
ulimit -c 0; (kill -SEGV $BASHPID) 2>/dev/null; echo "segv: $?"
ls -l /proc/self/fd | wc -l
echo "to stderr" >&2
perl -e '$SIG{ALRM} = sub { die "alarm\n" }; alarm 1; eval { sleep 10 }; print $@'
exec dash -c 'echo "exec $0"; exit 5' name
"""


def case(run):
  run.write("script", SCRIPT)
  done = run.call(BASH, "script")
  # bash names the process that was killed by its number, which is a new one each time.
  errors = re.sub(rb"line (\d+): +\d+ ", rb"line \1: PID ", done.err)
  return {"status": done.status, "output": done.out, "errors": errors}


harness.main("bash", case, needs=[BASH])
