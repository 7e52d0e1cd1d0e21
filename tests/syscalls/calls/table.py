# table.py - what the tests of the call table share: the parsed table and how to skip.
# The parser is that of scripts/gen_calls_doc, so that the manual and the tests read the same rows.
# SPDX-License-Identifier: Apache-2.0
import importlib.machinery
import importlib.util
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
TESTS = ROOT / "tests"
HERE = pathlib.Path(__file__).resolve().parent
GENERATOR = ROOT / "scripts" / "gen_calls_doc"

# The exit status that ctest takes for "skipped" (SKIP_RETURN_CODE).
SKIPPED = 77


def load_generator():
    """Returns scripts/gen_calls_doc as a module, leaving no __pycache__ behind."""
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("gen_calls_doc", str(GENERATOR))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def read_list(path):
    """Yields (line number, key, value) of a file of `key: value` lines; # starts a comment."""
    for number, text in enumerate(path.read_text().splitlines(), 1):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        key, colon, value = text.partition(":")
        if not colon:
            raise ValueError(f"{path}:{number}: not a `key: value` line: {text}")
        yield number, key.strip(), value.strip()


def report(errors):
    """Prints each error; returns the exit status of the test."""
    for error in errors:
        print(error)
    print(f"{len(errors)} error(s)" if errors else "ok")
    return 1 if errors else 0
