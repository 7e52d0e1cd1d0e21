# guest_object_test.py - goal: the call table is constant data that needs nothing but the loader.
# Method: looks at the object file of call_table_test.cc (built with the gate's options): no
# constructor to run, no thread-local storage, no GOT or PLT reference, no exception tables, and no
# undefined symbol but the handlers that calls.def names.
# SPDX-License-Identifier: Apache-2.0
import re
import subprocess
import sys

import table


def read_elf(tool, *arguments):
    return subprocess.run([tool, *arguments], check=True, capture_output=True, text=True).stdout


def check(path):
    sections = read_elf("readelf", "-SW", path)
    for name in (".init_array", ".ctors", ".tdata", ".tbss", ".gcc_except_table"):
        if re.search(rf"\s{re.escape(name)}[.\s]", sections):
            yield f"{path}: has a section {name}"
    if "kRows" not in sections:
        yield f"{path}: has no section for the table"
    relocations = read_elf("readelf", "-rW", path)
    for kind in sorted(set(re.findall(r"R_X86_64_\w*(?:GOT|PLT|TLS|TPOFF)\w*", relocations))):
        yield f"{path}: has a relocation {kind}"

    rows, _ = table.load_generator().read_table()
    expected = {row.handler for row in rows} | {"pass_unknown"}
    undefined = set(re.findall(r" U (.+)$", read_elf("nm", "-uC", path), re.MULTILINE))
    handlers = {f"weft::{name}(weft::CallFrame&)" for name in expected}
    for symbol in sorted(undefined ^ handlers):
        yield f"{path}: {symbol} is {'needed' if symbol in undefined else 'not referred to'}"


if __name__ == "__main__":
    sys.exit(table.report(list(check(sys.argv[1]))))
