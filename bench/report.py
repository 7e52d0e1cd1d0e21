# report.py - statistics of interleaved rounds, the tables, and the document they stand in.
# Guarantee: a ratio is formed inside a round and then its median taken (a pair saw the same
# machine); a section of the document that was not measured anew is kept only if it was taken on the
# same machine.
# Used by scripts/bench. Read next: harness.py.
# SPDX-License-Identifier: Apache-2.0
"""From samples to docs/benchmarks.md."""

import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess

SECTIONS = ("echo", "churn", "http", "micro", "idle")


class Samples:
    """What a cell of the plan brought: {variant: [fields of round 0, None if it failed, ...]}."""

    def __init__(self, names):
        self.rounds = {name: [] for name in names}

    def add(self, name, fields):
        self.rounds[name].append(fields)

    def values(self, name, field):
        return [fields[field] for fields in self.rounds.get(name, ()) if fields and field in fields]

    def paired(self, name, other, field, combine=lambda ours, theirs: ours / theirs):
        pairs = zip(self.rounds.get(name, ()), self.rounds.get(other, ()))
        return [combine(ours[field], theirs[field]) for ours, theirs in pairs
                if ours and theirs and theirs.get(field)]

    def whole_count(self, name):
        return sum(1 for fields in self.rounds[name] if fields)

    def failed_count(self, name):
        return len(self.rounds[name]) - self.whole_count(name)


def number(value):
    """Three significant digits or whole thousands: more would be noise."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def median(values):
    return number(statistics.median(values)) if values else "-"


def spread(values):
    """Median with the least and the greatest."""
    if not values:
        return "-"
    return f"{median(values)} [{number(min(values))} .. {number(max(values))}]"


def table(columns, rows):
    """A table without the columns in which no row has anything."""
    used = [index for index in range(len(columns)) if any(row[index] != "-" for row in rows)]
    columns = [columns[index] for index in used]
    rows = [[row[index] for index in used] for row in rows]
    lines = ["| " + " | ".join(columns) + " |",
             "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def runs_of(samples, name):
    failed = samples.failed_count(name)
    return f"{samples.whole_count(name)}" + (f" ({failed} failed)" if failed else "")


def load_table(samples, other):
    """Rate, CPU and latency of servers. other: the name of the second weft, or None."""
    columns = ["server", "req/s [min .. max]", "vs native, paired", "server CPU us/req",
               "CPU vs io_uring one-shot, paired", "p50 us", "p99 us", "p999 us",
               "kernel threads", "other cores busy", "runs"]
    if other:
        columns.insert(3, "vs other build, paired")
    rows = []
    for name in samples.rounds:
        row = [name, spread(samples.values(name, "rps")),
               spread(samples.paired(name, "native", "rps")),
               spread(samples.values(name, "server_us_per_req")),
               spread(samples.paired(name, "io_uring one-shot", "server_us_per_req")),
               median(samples.values(name, "p50_us")), median(samples.values(name, "p99_us")),
               median(samples.values(name, "p999_us")), median(samples.values(name, "threads")),
               median(samples.values(name, "other_cores")), runs_of(samples, name)]
        if other:
            row.insert(3, spread(samples.paired(name, other, "rps")))
        rows.append(row)
    return table(columns, rows)


def micro_table(cells, other):
    """cells: {question: Samples of the field ns}, native and weft side by side."""
    columns = ["question", "native ns [min .. max]", "weft ns [min .. max]",
               "native / weft, paired", "weft - native ns, paired", "runs"]
    if other:
        columns.insert(3, f"{other} ns [min .. max]")
        columns.insert(5, f"{other} / weft, paired")
    rows = []
    for question, samples in cells.items():
        difference = samples.paired("weft", "native", "ns", lambda ours, theirs: ours - theirs)
        row = [question, spread(samples.values("native", "ns")),
               spread(samples.values("weft", "ns")),
               spread(samples.paired("native", "weft", "ns")), spread(difference),
               " / ".join(runs_of(samples, name) for name in samples.rounds)]
        if other:
            row.insert(3, spread(samples.values(other, "ns")))
            row.insert(5, spread(samples.paired(other, "weft", "ns")))
        rows.append(row)
    return table(columns, rows)


def idle_table(samples):
    columns = ["server", "RSS", "kernel stacks", "page tables", "sum of the three",
               "sum vs native, paired", "slab (both ends of the connection)", "kernel threads",
               "connect s", "runs"]
    rows = []
    for name in samples.rounds:
        rows.append([name, median(samples.values(name, "rss_b_per_conn")),
                     median(samples.values(name, "kernel_stack_b_per_conn")),
                     median(samples.values(name, "page_table_b_per_conn")),
                     spread(samples.values(name, "sum_b_per_conn")),
                     spread(samples.paired(name, "native", "sum_b_per_conn")),
                     median(samples.values(name, "slab_b_per_conn")),
                     median(samples.values(name, "threads")),
                     median(samples.values(name, "connect_s")), runs_of(samples, name)])
    return table(columns, rows)


def first_line(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10,
                              check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return "none"


def read_text(path, default="none"):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return default


def load_average():
    return os.getloadavg()[0]


def commit(root):
    name = first_line(["git", "-C", str(root), "rev-parse", "--short", "HEAD"])
    changed = subprocess.run(["git", "-C", str(root), "status", "--porcelain", "--", ".",
                              ":(exclude)docs/benchmarks.md"],
                             capture_output=True, text=True, timeout=60, check=False).stdout
    return name + (" with uncommitted changes" if changed.strip() else "")


def machine():
    """What the numbers depend on, as the list at the head of the document."""
    model = re.search(r"^model name\s*:\s*(.*)$", read_text("/proc/cpuinfo", ""), re.MULTILINE)
    memory_kib = re.search(r"^MemTotal:\s*(\d+)", read_text("/proc/meminfo", ""), re.MULTILINE)
    governor = read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                         "none (the kernel exposes no frequency scaling)")
    virtual = first_line(["systemd-detect-virt"]) if shutil.which("systemd-detect-virt") else "?"
    facts = [
        ("CPU", model[1] if model else platform.machine()),
        ("cores", os.cpu_count()),
        ("virtualization", virtual),
        ("memory", f"{int(memory_kib[1]) / 2**20:.1f} GiB" if memory_kib else "?"),
        ("kernel", platform.release()),
        ("frequency governor", governor),
        ("TCP congestion control", read_text("/proc/sys/net/ipv4/tcp_congestion_control")),
        ("transparent huge pages", read_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        ("libc", " ".join(platform.libc_ver())),
        ("compiler", first_line(["c++", "--version"])),
        ("Go", first_line(["go", "version"])),
    ]
    return "\n".join(f"- {name}: {value}" for name, value in facts)


PREAMBLE = """# Benchmarks

<!-- Generated by scripts/bench: do not edit. -->

Every number is a median over rounds. In a round each row of a table runs once, and the order
rotates from round to round. A ratio is formed inside a round and then the median taken, so both of
its sides saw the same machine; brackets hold the least and the greatest. *native* and *weft* are
one and the same program: weft is that program with `LD_PRELOAD=libweft.so`. The load generator
checks every byte; a run with an error, or one that weft declined, enters no median.
"""


def kept_sections(path, machine_text):
    """The sections of an older document of the same machine: {name: text}."""
    if not path.exists():
        return {}
    text = path.read_text()
    if machine_text not in text:
        return {}
    found = re.findall(r"<!-- begin (\w+) -->\n(.*?)<!-- end \1 -->", text, re.DOTALL)
    return {name: body for name, body in found if name in SECTIONS}


def write_document(path, sections, keep):
    """sections: {name: text} measured now. keep: whether the old document's others stay."""
    machine_text = machine()
    merged = {**(kept_sections(path, machine_text) if keep else {}), **sections}
    parts = [PREAMBLE, "## Machine\n\n" + machine_text + "\n"]
    for name in SECTIONS:
        if name in merged:
            parts.append(f"<!-- begin {name} -->\n{merged[name]}<!-- end {name} -->\n")
    path.write_text("\n".join(parts))
