# coverage_test.py - goal: every row that weft does more for than pass it on has a test.
# Method: coverage.txt names the test files of each such call, and each file must exist and mention
# the call outside comments; uncovered.txt lists the rows whose test is still owed, each with its
# reason. A row in neither file fails, a row in both fails, and so does an entry that no row needs.
# SPDX-License-Identifier: Apache-2.0
import pathlib
import re
import sys
import tempfile

import table

COVERAGE = table.HERE / "coverage.txt"
UNCOVERED = table.HERE / "uncovered.txt"


def code_of(path):
    """Returns a file's text without its comments: a mention there tests nothing."""
    text = path.read_text()
    if path.suffix == ".py":
        return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)


def mentions(code, word):
    return re.search(rf"\b(SYS_|__NR_|sys_)?{re.escape(word)}\b", code) is not None


def read_coverage(path, needed, tests):
    """Returns (covered calls, errors) of a file of `call [via word ...]: test files` lines."""
    covered, errors = set(), []
    for line, key, value in table.read_list(path):
        where = f"{path.name}:{line}"
        call, _, via = key.partition(" via ")
        words = [call, *via.split()]
        if call in covered:
            errors.append(f"{where}: {call} has a line already")
        if call not in needed:
            errors.append(f"{where}: {call} needs no entry: no row of that name, or it just passes")
        if not value:
            errors.append(f"{where}: {call} names no test file")
        covered.add(call)
        for name in value.split():
            test = tests / name
            if not test.is_file():
                errors.append(f"{where}: tests/{name} does not exist")
            elif not any(mentions(code_of(test), word) for word in words):
                errors.append(f"{where}: tests/{name} mentions none of: {' '.join(words)}")
    return covered, errors


def read_uncovered(path, needed, covered):
    """Returns (excused calls, errors) of a file of `call: reason` lines."""
    excused, errors = set(), []
    for line, call, reason in table.read_list(path):
        where = f"{path.name}:{line}"
        if call in excused:
            errors.append(f"{where}: {call} has a line already")
        if call not in needed:
            errors.append(f"{where}: {call} needs no entry: no row of that name, or it just passes")
        elif call in covered:
            errors.append(f"{where}: {call} has a test now ({COVERAGE.name}): take the line out")
        if not reason:
            errors.append(f"{where}: {call} gives no reason")
        excused.add(call)
    return excused, errors


def check(needed, coverage, uncovered, tests):
    covered, errors = read_coverage(coverage, needed, tests)
    excused, more = read_uncovered(uncovered, needed, covered)
    errors += more
    errors += [f"{call} has no test: name one in {COVERAGE.name} or say why in {UNCOVERED.name}"
               for call in needed if call not in covered and call not in excused]
    return covered, excused, errors


def check_the_checks():
    """The checks themselves, on lists that are wrong in every way they know."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "a.c").write_text("int main() { return read(0, 0, 0); } // write\n")
        (folder / "coverage.txt").write_text(
            "read: a.c\nwrite: a.c\nfutex via read: gone.c\ngetpid: a.c\nread: a.c\npoll:\n")
        (folder / "uncovered.txt").write_text(
            "read: to be taken out\nsemop:\ngetpid: passes\nsemop: again\n")
        _, _, errors = check(["read", "write", "futex", "semop", "poll", "flock"],
                             folder / "coverage.txt", folder / "uncovered.txt", folder)
    found = "\n".join(errors)
    for expected in ("tests/a.c mentions none of: write", "tests/gone.c does not exist",
                     "coverage.txt:4: getpid needs no entry", "coverage.txt:5: read has a line",
                     "poll names no test file", "read has a test now", "semop gives no reason",
                     "uncovered.txt:3: getpid needs no entry", "uncovered.txt:4: semop has a line",
                     "flock has no test"):
        if expected not in found:
            yield f"coverage_test.py: does not notice: {expected}"


def main():
    rows, _ = table.load_generator().read_table()
    # In the table's order. A row served by `pass` is the kernel's call: nothing of ours to test.
    needed = {row.name: row.disposition for row in rows if row.handler != "pass"}
    covered, excused, errors = check(needed, COVERAGE, UNCOVERED, table.TESTS)
    print(f"{len(needed)} rows need a test: {len(covered)} have one, {len(excused)} are owed")
    return table.report([*check_the_checks(), *errors])


if __name__ == "__main__":
    sys.exit(main())
