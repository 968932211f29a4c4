# SPDX-License-Identifier: MIT
# QEMU under usekvm, driven over QMP: for migrate.py and soak.py. The serial line goes to a file, so that nothing is lost when a process ends.
# Whatever goes wrong is a Wrong exception with what QEMU and the guest said last.
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

# What the kernel says of its host CPU's side-channel mitigations (hw-vuln) is not about us.
# An AMD guest distrusts a TSC that is not said to be invariant, which a guest that may migrate is not told.
BAD_LINES = re.compile(r"Kernel panic|BUG:|WARNING:|Oops|unstable|lost tick|stuck for|soft lockup|rcu.*stall|blocked for more than|Call Trace|hung_task|segfault")
NOT_BAD = re.compile(r"hw-vuln|Spectre|bad lines|tsc: Marking TSC unstable due to TSCs unsynchronized")


class Wrong(Exception):
    pass


class Skip(Exception):
    pass


class Machine:
    def __init__(self, build, folder, name, arguments, launcher=(), environment=None, usekvm=True):
        self.name = name
        self.console = os.path.join(folder, name + ".console")
        self.errors = os.path.join(folder, name + ".qemu")
        self.socket_path = os.path.join(folder, name + ".qmp")
        self.seen = 0
        self.sock = None
        self.events = []
        env = dict(os.environ, **(environment or {}))
        command = [*([os.path.join(build, "usekvm"), *launcher, "--"] if usekvm else []), "qemu-system-x86_64", "-accel", "kvm", "-nodefaults", "-display", "none", "-no-reboot",
                   "-chardev", "file,id=console,path=" + self.console, "-serial", "chardev:console",
                   "-qmp", "unix:" + self.socket_path + ",server=on,wait=off", *arguments]
        with open(self.errors, "w") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err, env=env, start_new_session=True)
        try:
            self.connect()
        except BaseException:
            self.kill()
            raise

    def connect(self):
        end = time.time() + 60
        while True:
            self.alive()
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                self.sock.connect(self.socket_path)
                break
            except OSError:
                self.sock.close()
                if time.time() > end:
                    raise self.wrong("no QMP socket after 60 s")
                time.sleep(0.05)
        self.sock.settimeout(120)
        self.file = self.sock.makefile("rw", encoding="utf-8")
        json.loads(self.file.readline())
        self.qmp("qmp_capabilities")

    def qmp(self, command, **arguments):
        try:
            self.file.write(json.dumps({"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}) + "\n")
            self.file.flush()
            while True:
                line = self.file.readline()
                if not line:
                    raise self.wrong("QEMU ends during " + command)
                answer = json.loads(line)
                if "event" in answer:
                    self.events.append(answer)
                elif "error" in answer:
                    raise self.wrong("%s %s is refused: %s" % (command, arguments, answer["error"]["desc"]))
                elif "return" in answer:
                    return answer["return"]
        except OSError as e:
            raise self.wrong("QMP %s: %s" % (command, e)) from None

    def hmp(self, line):
        return self.qmp("human-monitor-command", command_line=line)

    def event(self, name):
        """Has this event come? It is taken then."""
        for e in self.events:
            if e["event"] == name:
                self.events.remove(e)
                return e
        return None

    def status(self):
        return self.qmp("query-status")["status"]

    def ended(self):
        return self.process.poll() is not None

    def alive(self):
        if self.ended():
            raise self.wrong("QEMU ends with exit code %d" % self.process.returncode)

    def text(self):
        try:
            with open(self.console, "rb") as f:
                return f.read().decode("utf-8", "replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    def check_console(self):
        for line in self.text().splitlines():
            if BAD_LINES.search(line) and not NOT_BAD.search(line):
                raise self.wrong("the guest says: " + line)

    def wait_text(self, pattern, seconds, after=0):
        """The first match of pattern on the console from that character on."""
        expression, end = re.compile(pattern, re.M), time.time() + seconds
        while True:
            m = expression.search(self.text(), after)
            if m:
                return m
            self.check_console()
            self.alive()
            if time.time() > end:
                raise self.wrong("the guest does not say '%s' within %d s" % (pattern, seconds))
            time.sleep(0.05)

    def wait_end(self, seconds):
        try:
            rc = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.wrong("QEMU does not end within %d s" % seconds) from None
        if rc:
            raise self.wrong("QEMU ends with exit code %d" % rc)

    def quit(self):
        self.qmp("quit")
        self.wait_end(60)
        self.close()

    def close(self):
        if self.sock:
            self.sock.close()

    def kill(self):
        if not self.ended():
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.close()

    def wrong(self, text):
        with open(self.errors, errors="replace") as f:
            said = f.read()[-1500:]
        return Wrong("%s: %s\n--- QEMU\n%s\n--- guest\n%s" % (self.name, text, said, self.text()[-2500:]))


def need_qemu(build):
    if not shutil.which("qemu-system-x86_64"):
        raise Skip("no qemu-system-x86_64 (Debian: qemu-system-x86)")
    out = subprocess.run(["ldd", os.path.join(build, "usekvm")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    if "libtsan" in out:
        raise Skip("QEMU's coroutines jump from stack to stack, which ThreadSanitizer takes for an error")


def main(run):
    """run() to the end: 0, or 1 with what was wrong, or 77. A time limit's SIGTERM ends the machines too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    try:
        run()
    except Skip as e:
        print("skip: %s" % e)
        return 77
    except Wrong as e:
        print("FAILED: %s" % e, flush=True)
        return 1
    return 0
