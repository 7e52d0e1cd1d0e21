#!/usr/bin/env python3
# library_test.py - what the file libweft.so must be, so that it can be a guest in libc.
# Rule 1: nothing needed but libc, no name taken from it but those that boot uses before the program
# has threads, no call through a PLT, no vector register in code that runs inside libc. Rule 2: no
# thread-local storage, and no access through FS: it is the fiber's. Rule 3: every instruction that
# enters the kernel lies in the one text segment, which Syscall User Dispatch allows.
# Usage: library_test.py LIBRARY
# SPDX-License-Identifier: Apache-2.0
import re
import subprocess
import sys
import unittest

# What boot and the doors call while the process has one thread and holds no lock of libc's.
BOOT_NAMES = {
    "__rseq_offset", "__rseq_size", "dl_iterate_phdr", "dladdr", "dlsym", "dlvsym",
    "pthread_attr_destroy", "pthread_attr_setstacksize", "pthread_getattr_default_np",
    "pthread_setattr_default_np", "setenv",
}
DOORS = {"pthread_create", "thrd_create"}
# Functions that may call them: those of doors.cc and boot.cc, or what is left of them after inlining.
BOOT_FUNCTIONS = re.compile(
    r"^(pthread_create|thrd_create|_ZN4weft7preload4boot"
    r"|_ZN4weft7preload12_GLOBAL__N_1L?\d+(on_load|become_live|prepare|can_be_served|decline"
    r"|set_default_stack_size|patch_all|collect_)|_ZN12_GLOBAL__N_1L?\d+libc_function)")
# They exist to save and to restore the vector state.
VECTOR_FUNCTIONS = re.compile(r"vector_state")

LIBRARY = ""


def output_of(*command):
  return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def functions(library):
  """Yields each function's name with its instructions."""
  name, code = None, []
  for line in output_of("objdump", "-d", "--no-show-raw-insn", library).splitlines():
    head = re.match(r"^[0-9a-f]+ <(.+)>:$", line)
    if head:
      if name:
        yield name, code
      name, code = head.group(1), []
    elif "\t" in line:
      code.append(line.split("\t", 1)[1])
  if name:
    yield name, code


class LibraryFile(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    cls.code = list(functions(LIBRARY))

  def test_01_needs_nothing_but_libc(self):
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", output_of("readelf", "-dW", LIBRARY))
    self.assertEqual(needed, ["libc.so.6"])

  def test_01_takes_no_name_but_those_of_boot(self):
    undefined = {line.split()[-1].split("@")[0]
                 for line in output_of("nm", "-D", "--undefined-only", LIBRARY).splitlines()}
    self.assertLessEqual(undefined, BOOT_NAMES)

  def test_01_shows_nothing_but_its_doors(self):
    defined = {line.split()[-1].split("@")[0]
               for line in output_of("nm", "-D", "--defined-only", LIBRARY).splitlines()}
    self.assertEqual(defined, DOORS)

  def test_01_has_no_plt(self):
    sections = output_of("readelf", "-SW", LIBRARY)
    self.assertNotRegex(sections, r"\.plt")
    relocations = output_of("readelf", "-rW", LIBRARY)
    self.assertNotIn("JUMP_SLO", relocations)

  def test_01_calls_libc_from_boot_only(self):
    # Imported functions are reached through their word in the GOT: find the words, then who uses
    # them.
    words = {}
    for line in output_of("readelf", "-rW", LIBRARY).splitlines():
      match = re.match(r"^0*([0-9a-f]+)\s.*R_X86_64_GLOB_DAT\s+\S+\s+([^@\s]+)", line)
      if match:
        words[int(match.group(1), 16)] = match.group(2)
    self.assertIn("dlsym", words.values())
    callers = {}
    for name, code in self.code:
      for instruction in code:
        for address in re.findall(r"# ([0-9a-f]+)\b", instruction):
          target = words.get(int(address, 16))
          if target:
            callers.setdefault(name, set()).add(target)
    strangers = {name: names for name, names in callers.items() if not BOOT_FUNCTIONS.match(name)}
    self.assertEqual(strangers, {})
    self.assertNotEqual(callers, {})

  def test_01_uses_no_vector_register(self):
    users = {name for name, code in self.code
             if any(re.search(r"%[xyz]mm|%mm\d|%k[0-7]\b", line) for line in code)
             and not VECTOR_FUNCTIONS.search(name)}
    self.assertEqual(users, set())

  def test_02_has_no_thread_local_storage(self):
    self.assertNotRegex(output_of("readelf", "-lW", LIBRARY), r"^\s+TLS\s")
    self.assertNotRegex(output_of("readelf", "-rW", LIBRARY), r"TPOFF|DTPMOD|TLSDESC")

  def test_02_does_not_go_through_fs(self):
    users = {name for name, code in self.code if any("%fs:" in line for line in code)}
    self.assertEqual(users, set())

  def test_03_enters_the_kernel_from_one_text_segment(self):
    segments = [line.split() for line in output_of("readelf", "-lW", LIBRARY).splitlines()
                if re.match(r"^\s+LOAD\s", line)]
    executable = [words for words in segments if "E" in words[6:-1]]
    self.assertEqual(len(executable), 1)
    begin, size = int(executable[0][2], 16), int(executable[0][4], 16)
    addresses = [int(line.split(":")[0], 16)
                 for line in output_of("objdump", "-d", LIBRARY).splitlines()
                 if re.search(r"\tsyscall\s*$", line)]
    self.assertGreater(len(addresses), 0)
    for address in addresses:
      self.assertTrue(begin <= address < begin + size, hex(address))

  def test_03_has_no_executable_stack_and_no_writable_code(self):
    for line in output_of("readelf", "-lW", LIBRARY).splitlines():
      if re.match(r"^\s+(LOAD|GNU_STACK)\s", line):
        flags = "".join(line.split()[6:-1])
        self.assertFalse("W" in flags and "E" in flags, line)


if __name__ == "__main__":
  LIBRARY = sys.argv[1]
  unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
