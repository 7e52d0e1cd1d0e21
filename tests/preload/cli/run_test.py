#!/usr/bin/python3
# run_test.py - `weft run`: what the program gets, what is said of one that cannot be served, and
# the exit statuses of env(1). Usage: run_test.py WEFT STAND_IN.
# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import struct
import unittest

import command

SHOW = 'for name in LD_PRELOAD WEFT_WORKERS WEFT_STACK_SIZE WEFT_STATS WEFT_INTERCEPT ' \
       'WEFT_LIBRARY; do eval "echo $name=\\$$name"; done'
RETURN_3 = "int main(void) { return 3; }"


class Served(command.CommandTest):
    def shown(self, *options, **environment):
        status, out, err = self.command("run", *options, "sh", "-c", SHOW, **environment)
        self.assertEqual((status, err), (0, ""))
        return dict(line.split("=", 1) for line in out.splitlines())

    def test_options_become_variables(self):
        shown = self.shown("--workers", "3", "--stack-size=65536", "--stats", "--intercept",
                           "audit", "--")
        self.assertEqual(shown, {"LD_PRELOAD": self.stand_in, "WEFT_WORKERS": "3",
                                 "WEFT_STACK_SIZE": "65536", "WEFT_STATS": "1",
                                 "WEFT_INTERCEPT": "audit", "WEFT_LIBRARY": ""})

    def test_without_options_variables_stay(self):
        shown = self.shown(WEFT_WORKERS="7")
        self.assertEqual((shown["WEFT_WORKERS"], shown["WEFT_STATS"]), ("7", ""))

    def test_preloads_already_there_stay_behind(self):
        other = "/lib/x86_64-linux-gnu/libm.so.6"
        self.assertEqual(self.shown(LD_PRELOAD=other)["LD_PRELOAD"], f"{self.stand_in}:{other}")
        twice = f"{other}:{self.stand_in}"
        self.assertEqual(self.shown(LD_PRELOAD=twice)["LD_PRELOAD"], twice)

    def test_arguments_and_status_are_the_programs(self):
        script = 'printf "%s|" "$@"; exit 7'
        words = ["x", "--workers", "4", "--", "a b", "--help", ""]
        for separator in ([], ["--"]):
            done = self.command("run", *separator, "sh", "-c", script, "sh", *words)
            self.assertEqual(done, (7, "".join(word + "|" for word in words), ""))

    def test_library_beside_the_command_or_in_lib(self):
        for library in ("bin/libweft.so", "lib/libweft.so"):
            root = self.path(library.replace("/", "-"))
            os.makedirs(os.path.join(root, "bin"))
            os.makedirs(os.path.join(root, "lib"))
            weft = shutil.copy(self.weft, os.path.join(root, "bin", "weft"))
            absent = self.command("run", "true", weft=weft, WEFT_LIBRARY="")
            self.assertEqual(absent[0], 125)
            self.assertIn(f"weft: libweft.so is neither in {root}/bin nor in {root}/lib", absent[2])
            shutil.copy(self.stand_in, os.path.join(root, library))
            found = self.command("run", "sh", "-c", "echo $LD_PRELOAD", weft=weft, WEFT_LIBRARY="")
            self.assertEqual(found, (0, os.path.join(root, library) + "\n", ""))

    def test_library_that_cannot_be_preloaded(self):
        os.mkdir(self.path("a b"))
        library = shutil.copy(self.stand_in, self.path("a b/libweft.so"))
        status, _, err = self.command("run", "true", WEFT_LIBRARY=library)
        self.assertEqual(status, 125)
        self.assertEqual(err, f"weft: {library}: LD_PRELOAD cannot carry a path with a space or a "
                              "colon; move it\n")
        status, _, err = self.command("run", "true", WEFT_LIBRARY="/nowhere.so")
        self.assertEqual((status, err), (125, "weft: WEFT_LIBRARY=/nowhere.so: no such file\n"))

    def test_script_runs_under_its_interpreter(self):
        script = self.write("script", "#!/bin/sh -e\necho $LD_PRELOAD\n", 0o755)
        self.assertEqual(self.command("run", script), (0, self.stand_in + "\n", ""))
        # execvp(3) gives a file without a first line to the shell.
        plain = self.write("plain", "echo $LD_PRELOAD\n", 0o755)
        self.assertEqual(self.command("run", plain), (0, self.stand_in + "\n", ""))


class Unserved(command.CommandTest):
    def check(self, program, reason, status, *arguments, **environment):
        """One line says why, and the program runs without the library."""
        done, out, err = self.command("run", program, *arguments, **environment)
        self.assertEqual(err, f"weft: {program} {reason}; running it natively\n")
        self.assertEqual(done, status)
        return out

    def test_static(self):
        program = self.compile("static", RETURN_3, "-static")
        self.check(program, "is statically linked: nothing can be preloaded", 3)
        program = self.compile("static-pie", RETURN_3, "-static-pie", "-fPIE")
        self.check(program, "is statically linked: nothing can be preloaded", 3)

    def test_set_uid_and_set_gid(self):
        program = self.compile("privileged", 'int main(void) { return 3; }')
        for mode, name in ((0o4755, "set-uid"), (0o2755, "set-gid"), (0o6755, "set-uid")):
            os.chmod(program, mode)
            self.check(program, f"is {name}: the loader ignores LD_PRELOAD", 3)

    def test_file_capabilities(self):
        program = self.compile("capable", RETURN_3)
        # struct vfs_cap_data, revision 2: CAP_NET_BIND_SERVICE permitted.
        try:
            capability = struct.pack("<5I", 0x02000000, 1024, 0, 0, 0)
            os.setxattr(program, "security.capability", capability)
        except OSError as error:
            self.skipTest(f"file capabilities cannot be set here: {error}")
        self.check(program, "has file capabilities: the loader ignores LD_PRELOAD", 3)

    def test_sanitizers(self):
        for name, sanitizer in (("AddressSanitizer", "address"), ("ThreadSanitizer", "thread")):
            program = self.compile(sanitizer, RETURN_3, f"-fsanitize={sanitizer}")
            self.check(program, f"is built with {name}", 3)
        # As clang links it: the runtime inside the program, its entry exported.
        source = "void __msan_init(void) {}" + RETURN_3
        program = self.compile("memory", source, "-rdynamic")
        self.check(program, "is built with MemorySanitizer", 3)

    def test_go(self):
        go = os.path.realpath(shutil.which("go") or "/usr/lib/go/bin/go")
        if not os.path.exists(go):
            self.skipTest("there is no Go program here")
        out = self.check(go, "is a Go program: it schedules its own goroutines", 0, "version")
        self.assertTrue(out.startswith("go version"), out)

    def test_other_loaders(self):
        # The loader of musl is not there: its program cannot start, which exec reports as ENOENT.
        flag = "-Wl,--dynamic-linker="
        program = self.compile("musl", RETURN_3, flag + "/lib/ld-musl-x86_64.so.1")
        status, _, err = self.command("run", program)
        self.assertEqual(status, 127)
        self.assertEqual(err, f"weft: {program} uses musl: weft serves glibc programs; running it "
                              f"natively\nweft: {program}: No such file or directory\n")
        program = self.compile("bionic", RETURN_3, flag + "/system/bin/linker64")
        self.assertIn(" uses the loader /system/bin/linker64: weft serves glibc programs; ",
                      self.command("run", program)[2])

    def test_other_machines(self):
        with open("/bin/true", "rb") as file:
            intact = bytearray(file.read())
        for offset, value in ((4, 1), (18, 183)):
            # EI_CLASS: 32 bits; e_machine: aarch64.
            changed = bytes(intact[:offset]) + bytes([value]) + bytes(intact[offset + 1:])
            program = self.write("other", changed, 0o755)
            self.assertIn(f"weft: {program} is not an x86-64 program; ",
                          self.command("run", program)[2])
        program = self.write("cut", bytes(intact[:70]), 0o755)
        self.assertIn(f"weft: {program} is not an intact ELF program; ",
                      self.command("run", program)[2])

    def test_script_of_an_unserved_interpreter(self):
        shell = self.compile("shell", RETURN_3, "-static")
        reason = f"is run by {shell}, which is statically linked: nothing can be preloaded"
        script = self.write("script", f"#!{shell} -x\n", 0o755)
        self.check(script, reason, 3)
        script = self.write("by_env", "#!/usr/bin/env shell\n", 0o755)
        self.check(script, reason, 3, PATH=f"{self.folder}:{os.environ['PATH']}")

    def test_native_means_without_our_variables(self):
        source = '#include <stdlib.h>\nint main(void) { return getenv("LD_PRELOAD") ? 4 : ' \
                 'getenv("WEFT_WORKERS") ? 5 : 3; }'
        program = self.compile("static", source, "-static")
        status, _, _ = self.command("run", "--workers", "2", program)
        self.assertEqual(status, 3)


class Refused(command.CommandTest):
    def check(self, words, status, message):
        self.assertEqual(self.command(*words), (status, "", f"weft: {message}\n"))

    def test_missing_program(self):
        self.check(["run", "no-such-program"], 127, "no-such-program: No such file or directory")
        self.check(["run", "/no/such"], 127, "/no/such: No such file or directory")

    def test_program_that_cannot_be_executed(self):
        plain = self.write("plain", "text")
        self.check(["run", plain], 126, f"{plain}: Permission denied")
        self.check(["run", self.folder], 126, f"{self.folder}: Permission denied")

    def test_wrong_values(self):
        for value in ("0", "257", "many", "-1", "2.5"):
            self.check(["run", f"--workers={value}", "true"], 2,
                       f"--workers={value}: must be a number from 1 to 64")
        self.check(["run", "--stack-size", "1", "true"], 2,
                   "--stack-size=1: must be a number from 16384 to 1099511627776")
        self.check(["run", "--intercept", "magic", "true"], 2,
                   "--intercept=magic: must be patch, audit or dispatch")

    def test_wrong_usage(self):
        self.check(["run", "--worker", "3", "true"], 2,
                   "--worker: no such option of weft run; see weft run --help")
        self.check(["run"], 2, "run: which command? See weft --help")
        self.check(["run", "--"], 2, "run: which command? See weft --help")
        self.assertEqual(self.command()[0], 2)
        self.assertEqual(self.command("fly")[0], 2)

    def test_help(self):
        status, out, err = self.command("run", "--help")
        self.assertEqual((status, err), (0, ""))
        for option in ("--workers", "--stack-size", "--stats", "--intercept", "WEFT_LIBRARY"):
            self.assertIn(option, out)


if __name__ == "__main__":
    command.main()
