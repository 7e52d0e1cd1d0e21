#!/usr/bin/python3
# git.py - acceptance, do no harm: commit, repack, clone and fsck of a local repository.
#
# Packing uses threads. All dates are fixed, so every object has the same name in every pass.
# SPDX-License-Identifier: Apache-2.0
import random

import harness

GIT = "/usr/bin/git"
DATE = "2020-01-01T00:00:00Z"
ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "author", "GIT_AUTHOR_EMAIL": "author@localhost", "GIT_AUTHOR_DATE": DATE,
    "GIT_COMMITTER_NAME": "author", "GIT_COMMITTER_EMAIL": "author@localhost",
    "GIT_COMMITTER_DATE": DATE, "GIT_CONFIG_NOSYSTEM": "1",
}


def case(run):
  draw = random.Random(6)

  def git(*arguments, where="source", **options):
    return run.call(GIT, "-C", run.path(where), *arguments, env=ENVIRONMENT, **options)

  run.call(GIT, "init", "-q", "-b", "main", run.path("source"), status=0, env=ENVIRONMENT)
  for revision in range(3):
    for number in range(150):
      run.write(f"source/dir-{number % 7}/file-{number}",
                "".join(f"{draw.randrange(100)} {number}\n" for _ in range(200)))
    git("add", ".", status=0)
    git("commit", "-q", "-m", f"revision {revision}", status=0)
  git("-c", "pack.threads=4", "repack", "-q", "-a", "-d", "-f", status=0)
  run.call(GIT, "clone", "-q", "--no-local", run.path("source"), run.path("clone"), status=0,
           env=ENVIRONMENT)
  run.native("/usr/bin/diff", "-r", "--exclude=.git", run.path("source"), run.path("clone"))
  answers = {"head": git("rev-parse", "HEAD", where="clone").out}
  for name, arguments in {
      "fsck": ("fsck", "--full", "--strict"),
      "log": ("log", "--stat", "--format=%H %s"),
      "grep": ("grep", "--threads=8", "-c", "^42 "),
      "status": ("status", "--porcelain"),
      "missing": ("show", "no-such-thing"),
  }.items():
    done = git(*arguments, where="clone")
    answers[name] = (done.status, done.out, done.err)
  return answers


harness.main("git", case, needs=[GIT])
