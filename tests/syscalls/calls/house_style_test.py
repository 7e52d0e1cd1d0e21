# house_style_test.py - goal: the rules of the house that a machine can see hold in every file.
# Method: reads the files that git knows or would add (outside a clone: all of them) and checks: no
# include points up the floors; a source file begins with its name and a sentence, and has an SPDX
# line in its head; no reminder of unfinished work; nothing outside the repository is named.
# SPDX-License-Identifier: Apache-2.0
import pathlib
import re
import subprocess
import sys
import tempfile

import table

SOURCES = {".c", ".cc", ".cpp", ".h", ".S", ".def", ".py", ".sh", ".go", ".js"}

# Folder -> what its quoted includes may begin with; the longest folder that fits decides. A quoted
# include is written from the root, so that its floor shows; the public headers are <weft/...>.
FLOORS = {
    "platform": ["platform/"],
    "scheduler": ["scheduler/", "platform/"],
    "scheduler/include": [],
    "syscalls": ["syscalls/", "scheduler/", "platform/"],
    "preload": ["preload/", "syscalls/", "scheduler/", "platform/"],
}
# One system's folder below platform/: for that folder, for syscalls/ and above. The contracts and
# the scheduler know no system.
SYSTEM_FOLDER = re.compile(r"platform/(arch|linux|darwin|windows|sim)/")
NO_SYSTEMS = re.compile(r"(platform/[^/]+|scheduler/.*)")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
HEAD = re.compile(r"(?://|#|;|--) (\S+) - \S.*")
SPDX = "SPDX-License-Identifier: Apache-2.0"
# Put together here, so that this file does not hold what it looks for.
REMINDER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")
OUTSIDE = re.compile("|".join([
    "/wor" + "k/", r"/\." + "library",
    r"\b(DESIGN|STYLE|PEERS)" + r"\.md",
    r"\b(INTERCEP" + r"TION|REALW" + r"ORLD|BASEL" + r"INES)\b",
]))


def committed_files(root):
    """Returns the paths, relative to root, of the files that are or would be committed."""
    git = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others",
                          "--exclude-standard"], capture_output=True, text=True, check=False)
    if git.returncode == 0:
        names = [name for name in git.stdout.split("\0") if name]
    else:
        names = [str(path.relative_to(root)) for path in root.rglob("*")
                 if "__pycache__" not in path.parts and not path.match("build*/*")]
    return sorted(name for name in names if (root / name).is_file())


def is_source(name, text):
    return pathlib.PurePath(name).suffix in SOURCES or text.startswith("#!")


def check_includes(name, lines):
    floor = max((f for f in FLOORS if name.startswith(f + "/")), key=len, default=None)
    if floor is None:
        return
    for number, line in enumerate(lines, 1):
        include = INCLUDE.match(line)
        if not include:
            continue
        where, path = f"{name}:{number}", include[2]
        if include[1] == "<":
            if path.startswith("weft/") and floor == "platform":
                yield f"{where}: <{path}> points up"
            elif path.endswith(".h") and re.fullmatch(r"platform/[^/]+\.h", name):
                yield f"{where}: a contract includes the standard library only, not <{path}>"
        elif not any(path.startswith(allowed) for allowed in FLOORS[floor]):
            yield f'{where}: "{path}" points up, or is not written from the root'
        elif SYSTEM_FOLDER.match(path) and NO_SYSTEMS.fullmatch(name):
            yield f'{where}: "{path}" belongs to one system, this file to all'


def check_head(name, lines):
    interpreter = bool(lines) and lines[0].startswith("#!")
    head = HEAD.fullmatch("".join(lines[interpreter:interpreter + 1]))
    path = pathlib.PurePath(name)
    if not head or head[1] not in (path.name, path.stem):
        yield f"{name}: does not begin with `{path.name} - one sentence`"
    comment = [line for line in lines[:60] if re.match(r"\s*(//|#|\*|;|--)", line)]
    if not any(SPDX in line for line in comment):
        yield f"{name}: no `{SPDX}` in its head"


def check_words(name, lines):
    for number, line in enumerate(lines, 1):
        for pattern, what in ((REMINDER, "unfinished work"), (OUTSIDE, "outside the repository")):
            found = pattern.search(line)
            if found:
                yield f"{name}:{number}: {found[0]}: {what}"


def check(root):
    for name in committed_files(root):
        try:
            text = (root / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            yield f"{name}: not UTF-8 text"
            continue
        lines = text.splitlines()
        if is_source(name, text):
            yield from check_head(name, lines)
            yield from check_includes(name, lines)
        yield from check_words(name, lines)


def check_the_checks():
    """The checks themselves, on files that break each rule; and one that keeps all."""
    head = "// {} - a file.\n// " + SPDX + "\n"
    files = {
        "platform/good.h": head.format("good.h") + "#include <cstdint>\n",
        "platform/up.h": head.format("up.h") + '#include "scheduler/park.h"\n',
        "platform/contract.h": head.format("contract.h") + "#include <unistd.h>\n",
        "scheduler/up.cc": head.format("up.cc") + '#include "syscalls/call_table.h"\n',
        "scheduler/near.cc": head.format("near.cc") + '#include "park.h"\n',
        "scheduler/linux.cc": head.format("linux.cc") + '#include "platform/linux/os.h"\n',
        "scheduler/include/weft/go.h": head.format("go.h") + '#include "scheduler/park.h"\n',
        "syscalls/up.cc": head.format("up.cc") + '#include "preload/gate.h"\n',
        "tests/name.c": head.format("other.c"),
        "tests/licence.py": "# licence.py - a file.\n",
        "tests/words.txt": "TO" + "DO: later\nsee /wor" + "k/notes\n",
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        found = list(check(pathlib.Path(folder)))
    for name in files:
        expected = {"platform/good.h": 0, "tests/words.txt": 2}.get(name, 1)
        hits = [error for error in found if error.startswith(name + ":")]
        if len(hits) != expected:
            yield f"house_style_test.py: {name} gives {hits}, expected {expected} error(s)"


def main():
    return table.report([*check_the_checks(), *check(table.ROOT)])


if __name__ == "__main__":
    sys.exit(main())
