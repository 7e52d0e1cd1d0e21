#!/usr/bin/python3
# packaging_test.py - goal: what `cmake --install` leaves is enough for somebody else's project.
# Method: installs the build into a temporary prefix, which is then moved, since packages are;
# checks every file there; builds the consumer beside this file by find_package and by pkg-config,
# under --as-needed, which some compilers have by default and which must not lose the library;
# runs it linked, preloaded by the installed `weft run`, and natively, and reads what it says.
# Usage: packaging_test.py BUILD_DIRECTORY VERSION. Exit status 77: skipped, and why.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

SECONDS_MAX = 120
SKIPPED = 77
WORKERS = 2
# The watchdog, and the kernel's helpers of two rings.
OTHER_KERNEL_THREADS = 1 + 2 * 4
CONSUMER = pathlib.Path(__file__).resolve().parent / "consumer"
FILES = {
    "bin/weft": 0o755,
    "lib/libweft.so": 0o644,
    "include/weft/weft.h": 0o644,
    "lib/cmake/weft/weft-config.cmake": 0o644,
    "lib/cmake/weft/weft-config-version.cmake": 0o644,
    "lib/pkgconfig/weft.pc": 0o644,
    "share/doc/weft/LICENSE": 0o644,
}


class Failure(Exception):
    pass


def expect(condition, why):
    if not condition:
        raise Failure(why)


def environment(**changes):
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith("WEFT") and name != "LD_PRELOAD"}
    return {**clean, "WEFT_WORKERS": str(WORKERS), **changes}


def run(*words, **changes):
    """Runs a command to its end, demands success and a silent standard error; its output."""
    done = subprocess.run([str(word) for word in words], env=environment(**changes),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=SECONDS_MAX, check=False)
    shown = shlex.join(str(word) for word in words)
    if "io_uring is refused here" in done.stderr:
        print(f"skip: {done.stderr.strip()}")
        sys.exit(SKIPPED)
    expect(done.returncode == 0, f"{shown} ended with {done.returncode}: {done.stdout[-1000:]}"
                                 f"{done.stderr[-1000:]}")
    expect(done.stderr == "", f"{shown} said: {done.stderr[-1000:]}")
    return done.stdout


def check_files(prefix):
    """Exactly the files of FILES, none empty, with their modes."""
    found = {str(path.relative_to(prefix)): path for path in prefix.rglob("*") if path.is_file()}
    expect(set(found) == set(FILES), f"installed {sorted(found)}, expected {sorted(FILES)}")
    for name, mode in FILES.items():
        status = found[name].stat()
        expect(status.st_size > 0, f"{name} is empty")
        expect(status.st_mode & 0o777 == mode, f"{name} has the mode {status.st_mode & 0o777:o}")


def check_header(prefix):
    run(os.environ.get("CC", "cc"), "-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror",
        "-fsyntax-only", "-I", prefix / "include", CONSUMER / "header.c")


def check_run(version, on_fibers, *words, **changes):
    """The consumer, run by these words, tells the version and what its threads were."""
    said = run(*words, **changes)
    found = re.fullmatch(r"version (\S+), fibers (\d+) of 100, kernel threads (\d+)\n", said)
    expect(found, f"{words[0]} said {said!r}")
    expect(found[1] == version, f"{words[0]} was built with version {found[1]}, not {version}")
    fibers, kernel_threads = int(found[2]), int(found[3])
    if on_fibers:
        expect(fibers == 100 and kernel_threads <= WORKERS + OTHER_KERNEL_THREADS,
               f"{shlex.join(map(str, words))} did not run on fibers: {said}")
    else:
        expect(fibers == 0 and kernel_threads == 101,
               f"{words[0]} ran on fibers, though it is not preloaded: {said}")


def check_cmake_package(prefix, folder, version):
    run("cmake", "-S", CONSUMER, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}",
        "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror",
        "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--as-needed")
    run("cmake", "--build", folder)
    found = (folder / "found").read_text(encoding="utf-8").splitlines()
    expect(found == [version, str(prefix / "lib/libweft.so"), str(prefix / "bin/weft")],
           f"find_package(weft) found {found}")
    check_run(version, True, folder / "linked")
    check_run(version, False, folder / "plain")
    check_run(version, True, prefix / "bin/weft", "run", "--", folder / "plain")
    check_run(version, True, folder / "plain", LD_PRELOAD=str(prefix / "lib/libweft.so"))
    # A version that is not there must not be found.
    refused = subprocess.run(
        ["cmake", "-S", CONSUMER, "-B", folder / "refused", f"-DCMAKE_PREFIX_PATH={prefix}",
         "-DWEFT_WANTED=99"],
        env=environment(), capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    expect(refused.returncode != 0 and f"version: {version}" in refused.stderr,
           f"find_package(weft 99) was not refused as too old: {refused.stderr[-1000:]}")


def check_pkg_config(prefix, folder, version):
    def ask(*options):
        return run("pkg-config", *options, "weft",
                   PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig")).split()
    folder.mkdir()
    expect(ask("--modversion") == [version], f"pkg-config: version {ask('--modversion')}")
    library, = ask("--variable=library")
    expect(os.path.realpath(library) == str(prefix / "lib/libweft.so"), f"pkg-config: {library}")
    for name, flags in (("linked", [*ask("--libs"), f"-Wl,-rpath,{prefix}/lib"]), ("plain", [])):
        run(os.environ.get("CXX", "c++"), "-std=c++20", "-Wall", "-Wextra", "-Werror", "-pthread",
            "-Wl,--as-needed", *ask("--cflags"), CONSUMER / "consumer.cc", "-o", folder / name,
            *flags)
    check_run(version, True, folder / "linked")
    check_run(version, False, folder / "plain")
    check_run(version, True, folder / "plain", LD_PRELOAD=library)


def main(build, version):
    with tempfile.TemporaryDirectory(prefix="weft-packaging-") as name:
        folder = pathlib.Path(name).resolve()
        run("cmake", "--install", build, "--prefix", folder / "staged")
        prefix = folder / "moved"
        shutil.move(folder / "staged", prefix)
        check_files(prefix)
        check_header(prefix)
        check_cmake_package(prefix, folder / "cmake", version)
        if shutil.which("pkg-config") is None:
            print("skip: pkg-config is not installed; the rest is as it should be")
            sys.exit(SKIPPED)
        check_pkg_config(prefix, folder / "pkg-config", version)
    print("packaging_test: ok")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failure as failure:
        sys.exit(f"packaging_test: FAIL {failure}")
