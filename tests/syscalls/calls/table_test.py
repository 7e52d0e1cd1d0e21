# table_test.py - goal: every call of this machine has one sound row in calls.def.
# Method: the rows against each other (order, gaps, words, handlers), then against the numbers of
# the installed <asm/unistd_64.h>, then against the entry points that the running kernel names in
# /proc/kallsyms. Calling unknown numbers to see whether they answer would be dangerous and is not
# done; a kernel that hides its symbols leaves that last part out, and the output says so.
# SPDX-License-Identifier: Apache-2.0
import os
import platform
import re
import subprocess
import sys

import table

# The shared handlers and the one disposition each serves. Every other disposition needs a body.
SHARED = {"pass": "PASS", "offload": "OFFLOAD", "bind": "BIND"}

# Entry points in a 64-bit kernel that no 64-bit number reaches: the i386 ABI, other architectures'.
FOREIGN = re.compile(r"\w*16|\w*32|\w*64_64|ia32_\w+|old_?\w+|vm86\w*|s390_\w+|spu_\w+"
                     r"|pciconfig_\w+|.*\..*")
FOREIGN_NAMES = set("""
    fstatfs64 gethostname ipc llseek mmap_pgoff ni_syscall nice recv rtas send sgetmask signal
    sigpending sigprocmask sigreturn sigsuspend socketcall ssetmask statfs64 stime subpage_prot
    sync_file_range2 waitpid
""".split())
# Entry points whose name is not the number's.
RENAMED = {"newfstat": "fstat", "newlstat": "lstat", "newstat": "stat", "newuname": "uname",
           "sendfile64": "sendfile", "umount": "umount2"}


def check_rows(rows, gaps, words):
    for before, row in zip(rows, rows[1:]):
        if row.number <= before.number:
            yield f"calls.def:{row.line}: {row.number} after {before.number}: ordered, none twice"
    names = [row.name for row in rows]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"calls.def: {name} has more than one row"
    numbers = {row.number for row in rows}
    gap_numbers = {n for gap in gaps for n in range(gap.first, gap.last + 1)}
    for number in sorted(numbers & gap_numbers):
        yield f"calls.def: {number} has a row and lies in a gap"
    for number in sorted(set(range(max(numbers) + 1)) - numbers - gap_numbers):
        yield f"calls.def: {number} has neither a row nor a gap"

    for row in rows:
        where = f"calls.def:{row.line}: {row.name}"
        if row.disposition not in words:
            yield f"{where}: no disposition is called {row.disposition}"
        if row.handler in SHARED:
            if SHARED[row.handler] != row.disposition:
                yield f"{where}: handler {row.handler} does not serve {row.disposition}"
        elif row.handler != "sys_" + row.name:
            yield f"{where}: handler {row.handler}, expected sys_{row.name} or a shared one"
        if row.handler != "pass" and not row.note:
            yield f"{where}: {row.disposition} by {row.handler} needs a note"


def header_numbers():
    """Returns name -> number of the installed headers, as the compiler sees them."""
    compiler = os.environ.get("CC", "cc")
    macros = subprocess.run([compiler, "-E", "-dM", "-include", "asm/unistd_64.h", "-x", "c",
                             os.devnull], check=True, capture_output=True, text=True).stdout
    return {name: int(number)
            for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", macros, re.MULTILINE)}


def check_headers(rows):
    header = header_numbers()
    if len(header) < 300:
        yield f"<asm/unistd_64.h> names only {len(header)} calls: is it another architecture's?"
    numbers = {row.name: row.number for row in rows}
    for name, number in sorted(header.items(), key=lambda item: item[1]):
        if name not in numbers:
            yield f"{name} ({number}) of <asm/unistd_64.h> has no row in calls.def"
        elif numbers[name] != number:
            yield f"{name} is {number} in <asm/unistd_64.h>, {numbers[name]} in calls.def"
    print(f"<asm/unistd_64.h>: {len(header)} calls looked up")


def kernel_names():
    """Returns the names of the running kernel's 64-bit entry points; empty if it hides them."""
    try:
        with open("/proc/kallsyms", encoding="ascii", errors="replace") as symbols:
            entries = [line.split()[2] for line in symbols if " __x64_sys_" in line]
    except OSError:
        return set()
    names = {entry.removeprefix("__x64_sys_") for entry in entries}
    return {RENAMED.get(name, name) for name in names
            if name not in FOREIGN_NAMES and not FOREIGN.fullmatch(name)}


def check_kernel(rows):
    names = kernel_names()
    if not names:
        print("/proc/kallsyms names no entry points: the running kernel was not compared")
        return
    if "read" not in names or len(names) < 300:
        yield f"/proc/kallsyms names only {len(names)} entry points, read among them: unexpected"
    for name in sorted(names - {row.name for row in rows}):
        yield f"the running kernel ({platform.release()}) has {name}, calls.def has no row for it"
    print(f"running kernel: {len(names)} entry points looked up")


def check_the_checks(words):
    """The checks themselves, on a table that is wrong in every way they know."""
    row = table.load_generator().Row
    wrong = [row(0, "read", "COMPLETE", "pass", "x", 1), row(2, "open", "OPEN", "sys_open", "x", 2),
             row(2, "open", "EMULATE", "sys_close", "", 3)]
    found = "\n".join(check_rows(wrong, [], words))
    for expected in ("does not serve COMPLETE", "no disposition is called OPEN", "2 after 2",
                     "more than one row", "handler sys_close", "needs a note", "1 has neither"):
        if expected not in found:
            yield f"table_test.py: does not notice: {expected}"


def main():
    if platform.machine() != "x86_64":
        print(f"calls.def holds the numbers of x86_64; this machine is {platform.machine()}")
        return table.SKIPPED
    generator = table.load_generator()
    rows, gaps = generator.read_table()
    words = generator.DISPOSITIONS
    return table.report([*check_the_checks(words), *check_rows(rows, gaps, words),
                         *check_headers(rows), *check_kernel(rows)])


if __name__ == "__main__":
    sys.exit(main())
