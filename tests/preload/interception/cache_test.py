#!/usr/bin/env python3
# cache_test.py - the tables of system call sites that one start leaves for the next.
# A table that is used stays as it is; one that is missing, damaged or somebody else's to write is
# not believed, and is made anew where that is allowed. The program behaves the same in each case.
# Usage: cache_test.py LIBRARY PROGRAMS OTHER-PROGRAMS (support.py)
# SPDX-License-Identifier: Apache-2.0
import os
import stat
import subprocess

import support

LIBC = "/lib/x86_64-linux-gnu/libc.so.6"


def build_id(path):
  notes = subprocess.run(["readelf", "-nW", path], check=True, stdout=subprocess.PIPE,
                         text=True).stdout
  return notes.split("Build ID:")[1].split()[0]


class Cache(support.Case):

  def setUp(self):
    super().setUp()
    self.home = os.path.join(self.folder, "cache")
    self.tables = os.path.join(self.home, "weft", "sites-v1")

  def start(self, **variables):
    """Starts a program with threads, which must work."""
    result = self.under_weft(self.program("stack_sizes"),
                             variables=dict({"XDG_CACHE_HOME": self.home}, **variables))
    self.assertEqual((result.status, result.stderr), (0, ""))
    return result

  def table_of_libc(self):
    return os.path.join(self.tables, build_id(LIBC))

  def state(self):
    """What tells a table that stayed from one that was made anew."""
    state = {}
    for name in sorted(os.listdir(self.tables)):
      status = os.stat(os.path.join(self.tables, name))
      state[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return state

  def test_the_first_start_leaves_private_tables(self):
    self.start()
    self.assertIn(build_id(LIBC), os.listdir(self.tables))
    for folder in (self.home, os.path.dirname(self.tables), self.tables):
      self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700, folder)
    for name in os.listdir(self.tables):
      status = os.stat(os.path.join(self.tables, name))
      self.assertEqual(stat.S_IMODE(status.st_mode), 0o600, name)
      self.assertFalse(name.endswith(".tmp"))

  def test_the_second_start_uses_them(self):
    # A table that could not be used would be written anew, as the next tests show.
    self.start()
    before = self.state()
    self.start()
    self.assertEqual(self.state(), before)

  def test_a_damaged_table_is_made_anew(self):
    self.start()
    path = self.table_of_libc()
    with open(path, "rb") as file:
      whole = file.read()
    damages = {
        "a changed byte": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        "a torn end": whole[:len(whole) // 2],
        "nothing": b"",
        "other bytes": b"x" * len(whole),
    }
    for what, content in damages.items():
      with self.subTest(what):
        with open(path, "wb") as file:
          file.write(content)
        self.start()
        with open(path, "rb") as file:
          self.assertEqual(file.read(), whole)

  def test_a_table_that_others_may_write_is_not_believed(self):
    self.start()
    path = self.table_of_libc()
    os.chmod(path, 0o666)
    inode = os.stat(path).st_ino
    self.start()
    self.assertNotEqual(os.stat(path).st_ino, inode)
    self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

  def test_a_folder_that_others_may_write_is_not_used(self):
    self.start()
    for name in os.listdir(self.tables):
      os.unlink(os.path.join(self.tables, name))
    os.chmod(self.tables, 0o777)
    self.start()
    self.assertEqual(os.listdir(self.tables), [])

  def test_switched_off_it_writes_nothing(self):
    self.start(WEFT_CACHE="0")
    self.assertFalse(os.path.exists(self.home))

  def test_home_is_the_default(self):
    result = self.under_weft(self.program("stack_sizes"))
    self.assertEqual(result.status, 0)
    folder = os.path.join(self.folder, ".cache", "weft", "sites-v1")
    self.assertIn(build_id(LIBC), os.listdir(folder))

  def test_without_a_place_it_works(self):
    environment = self.weft_environment(XDG_CACHE_HOME="relative/path")
    del environment["HOME"]
    result = self.run_in(environment, self.program("stack_sizes"))
    self.assertEqual((result.status, result.stderr), (0, ""))
    self.assertEqual(os.listdir(self.folder), [])

  def test_a_late_library_has_a_table(self):
    library = self.program("late_separate.so")
    result = self.under_weft(self.program("late_objects"), library,
                             variables={"XDG_CACHE_HOME": self.home})
    self.assertEqual((result.status, result.stderr), (0, ""))
    self.assertIn(build_id(library), os.listdir(self.tables))


if __name__ == "__main__":
  support.main()
