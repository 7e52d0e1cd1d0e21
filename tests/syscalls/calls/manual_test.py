# manual_test.py - goal: docs/calls.md is what calls.def says, and --check would notice if not.
# Method: --check on the committed manual; then on a copy with one row taken out, on a table with
# one note changed, and on a table with a line that is no row: each must fail and say why.
# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import sys
import tempfile

import table


def generate(*arguments):
    return subprocess.run([sys.executable, str(table.GENERATOR), *map(str, arguments)],
                          capture_output=True, text=True, check=False)


def check_stale(folder):
    generator = table.load_generator()
    manual = generator.MANUAL.read_text()

    stale = folder / "calls.md"
    stale.write_text("".join(line for line in manual.splitlines(keepends=True)
                             if "| `futex` |" not in line))
    if stale.read_text() == manual:
        yield "docs/calls.md has no row for futex"
    result = generate("--check", "--output", stale)
    if result.returncode != 1 or "run scripts/gen_calls_doc" not in result.stderr:
        yield f"--check took a manual without a row: {result}"
    if generate("--output", stale).returncode != 0 or stale.read_text() != manual:
        yield "writing the manual anew does not give docs/calls.md"

    changed = folder / "calls.def"
    changed.write_text(generator.TABLE.read_text().replace('"as read"', '"as read, changed"'))
    if generate("--check", "--table", changed).returncode != 1:
        yield "--check took the manual of another table"
    changed.write_text(generator.TABLE.read_text() + "WEFT_CALL(9999, broken)\n")
    result = generate("--check", "--table", changed)
    if result.returncode == 0 or "WEFT_CALL(9999, broken)" not in result.stderr:
        yield f"a line that is no row was taken: {result}"


def main():
    errors = []
    result = generate("--check")
    if result.returncode != 0:
        errors.append(result.stderr.strip())
    with tempfile.TemporaryDirectory() as folder:
        errors += check_stale(pathlib.Path(folder))
    return table.report(errors)


if __name__ == "__main__":
    sys.exit(main())
