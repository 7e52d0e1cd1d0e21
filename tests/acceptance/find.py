#!/usr/bin/python3
# find.py - acceptance, do no harm: find, xargs and friends over trees that do not change.
# SPDX-License-Identifier: Apache-2.0
import clients
import harness

COMMANDS = {
    "find": "find /usr/include /usr/share/doc /etc -maxdepth 3 -printf '%p %s %m %y %l\\n'",
    "exec": "find /usr/include -maxdepth 1 -name 'p*.h' -exec md5sum {} +",
    "xargs": "find /usr/include -maxdepth 1 -name '*.h' -print0 | sort -z | "
             "xargs -0 -P 4 -n 8 cat | wc -c",
    "tar": "tar -C /usr/include -cf - --sort=name linux | sha256sum",
    "grep": "grep -r -c define /usr/include/linux | sort",
    "ls": "ls -lR /usr/include/asm-generic",
    "missing": "find /no-such-place",
}


def case(run):
  answers = {}
  for name, command in COMMANDS.items():
    done = run.call("/bin/bash", "-c", command)
    answers[name] = (done.status, clients.sha256(done.out), len(done.out), done.err)
  return answers


harness.main("find", case, needs=["/usr/bin/find", "/usr/bin/xargs"])
