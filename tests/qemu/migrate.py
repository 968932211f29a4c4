# SPDX-License-Identifier: MIT
# migrate.py [options]: live migration between two QEMU processes over a local socket, to and fro, and snapshots in a qcow2 file (savevm, loadvm), while two
# CPUs of the guest write memory and check it (churn.c). Both sides stand still after each: every byte of RAM, the CPUs' registers and the interrupt
# chips are compared. Then the guest goes on: it must find no error, its time must go on, its kernel must not complain.
#
#   --migrations=N --snapshots=N   how often (2 and 2)
#   --machine=M                    QEMU's (q35)
#   --engines=A,B,...              engine of the 1st, 2nd, ... process, in turn (what the environment says)
#   --inject=LIST                  under usekvm --inject=LIST
import argparse
import gzip
import mmap
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import Machine, Skip, Wrong, main, need_qemu

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RAM_MIB = 192
CHURN_MIB = 32
LINE = r"churn: pages (\d+) registers (\d+) errors (\d+) seconds (\d+)$"

INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "churn: begins on $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
churn %d 2
echo "churn: error: ended"
"""


class Test:
    def __init__(self, options, folder):
        self.options, self.folder, self.count = options, folder, 0
        self.build = os.path.abspath(options.build)
        self.engines = options.engines.split(",") if options.engines else [None]
        self.kernel = os.path.join(TOP, ".cache", "kernel", "vmlinuz")
        self.initrd = os.path.join(folder, "initrd.gz")
        base = os.path.join(TOP, ".cache", "initramfs.gz")
        for f in (self.kernel, base):
            if not os.path.exists(f):
                raise Skip("no %s: ./test.sh fetches and makes it" % f)
        tree = os.path.join(folder, "tree")
        os.makedirs(os.path.join(tree, "bin"))
        with open(os.path.join(tree, "init"), "w") as f:
            f.write(INIT % CHURN_MIB)
        os.chmod(os.path.join(tree, "init"), 0o755)
        with open(os.path.join(self.build, "tests/qemu/churn"), "rb") as f, open(os.path.join(tree, "bin/churn"), "wb") as g:
            g.write(f.read())
        os.chmod(os.path.join(tree, "bin/churn"), 0o755)
        more = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], input=b"init\nbin\nbin/churn\n", cwd=tree, stdout=subprocess.PIPE, check=True).stdout
        # A later archive's files replace those of the first.
        with open(self.initrd, "wb") as out, open(base, "rb") as first:
            out.write(first.read() + gzip.compress(more, 1))

    def start(self, *arguments):
        engine = self.engines[self.count % len(self.engines)]
        self.count += 1
        append = "console=ttyS0 panic=-1 oops=panic loglevel=5"
        machine = self.options.machine
        if machine.startswith("microvm"):
            append += " reboot=t"
        launcher = ["--inject=" + self.options.inject] if self.options.inject else []
        return Machine(self.build, self.folder, "process-%d" % self.count,
                       ["-M", machine, "-cpu", "host", "-smp", "2", "-m", str(RAM_MIB), "-kernel", self.kernel, "-initrd", self.initrd, "-append", append, *arguments],
                       launcher, {"USEKVM_ENGINE": engine} if engine else None)

    def report(self, m, after=0, seconds=60):
        """The next of the guest's reports from that character of the console on: (pages, seconds of the guest, end)."""
        r = m.wait_text(LINE, seconds, after)
        if r.group(3) != "0":
            raise m.wrong("the guest finds %s errors" % r.group(3))
        return int(r.group(1)), int(r.group(4)), r.end()

    def goes_on(self, m, after, pages, seconds):
        """Two more reports: work goes on from there, and time does."""
        p1, s1, end = self.report(m, after)
        p2, s2, end = self.report(m, end)
        if not pages <= p1 < p2:
            raise m.wrong("work does not go on: %d pages, then %d and %d" % (pages, p1, p2))
        if not seconds <= s1 <= s2 or s2 - seconds > 20:
            raise m.wrong("time does not go on: %d s, then %d and %d" % (seconds, s1, s2))
        m.check_console()
        return p2, s2, end

    def last(self, m):
        found = [(int(r.group(1)), int(r.group(4))) for r in re.finditer(LINE, m.text(), re.M)]
        if "churn: error" in m.text():
            raise m.wrong("the guest finds errors")
        return found[-1]

    def state(self, m, name):
        """Of a machine that stands still: RAM in a file, registers, chips."""
        path = os.path.join(self.folder, name + ".ram")
        m.qmp("pmemsave", val=0, size=RAM_MIB << 20, filename=path)
        chips = "" if self.options.machine.startswith("microvm") else m.hmp("info pic")
        return path, m.hmp("info registers -a"), chips

    def compare(self, m, what, a, b):
        for k, name in ((1, "registers"), (2, "interrupt chips")):
            for x, y in zip(a[k].splitlines(), b[k].splitlines()):
                # Edges that wait in the IOAPIC: QEMU's devices set their lines anew when they are loaded.
                if x != y and not x.split()[:1] == y.split()[:1] == ["IRR"]:
                    raise m.wrong("%s: %s differ:\n  %s\n  %s" % (what, name, x, y))
        with open(a[0], "rb") as f, open(b[0], "rb") as g, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as x, mmap.mmap(
                g.fileno(), 0, access=mmap.ACCESS_READ) as y:
            different = []
            for at in range(0, RAM_MIB << 20, 1 << 20):
                if x[at:at + (1 << 20)] != y[at:at + (1 << 20)]:
                    different += [p for p in range(at, at + (1 << 20), 4096) if x[p:p + 4096] != y[p:p + 4096]]
            # The guest's wall clock (12 bytes) is written again when its register is set, by the kernel's KVM too.
            if len(different) == 1:
                p = different[0]
                bytes_at = [i for i in range(4096) if x[p + i] != y[p + i]]
                if bytes_at[-1] // 4 - bytes_at[0] // 4 < 3 and bytes_at[0] // 4 % 16 < 3:
                    different = []
            if different:
                p = different[0]
                k = next(i for i in range(4096) if x[p + i] != y[p + i])
                raise m.wrong("%s: %d pages of RAM differ, the first at %#x: %s, then %s" % (
                    what, len(different), p + k, x[p + k:p + k + 32].hex(), y[p + k:p + k + 32].hex()))
        os.unlink(a[0])
        os.unlink(b[0])

    def migrate(self, source, n):
        path = os.path.join(self.folder, "wire-%d" % n)
        target = self.start("-incoming", "unix:" + path, "-S")
        try:
            source.qmp("migrate-set-parameters", downtime_limit=500, max_bandwidth=0)
            begin = time.time()
            source.qmp("migrate", uri="unix:" + path)
            while True:
                target.alive()
                info = source.qmp("query-migrate")
                if info["status"] == "completed":
                    break
                if info["status"] in ("failed", "cancelled"):
                    raise source.wrong("migration: %s" % info)
                if time.time() - begin > 90:
                    raise source.wrong("migration does not end: %s" % info)
                time.sleep(0.05)
            end = time.time() + 30
            while target.status() != "paused":
                if time.time() > end:
                    raise target.wrong("the state after the migration is %s" % target.status())
                time.sleep(0.05)
            ram = info["ram"]
            took = time.time() - begin
            if ram["dirty-sync-count"] < 2:
                raise source.wrong("the guest did not run while it was migrated: %s" % info)
            pages, seconds = self.last(source)
            self.compare(target, "migration %d" % n, self.state(source, "source"), self.state(target, "target"))
            source.quit()
            target.qmp("cont")
            pages, seconds, _ = self.goes_on(target, 0, pages, seconds)
        except BaseException:
            target.kill()
            raise
        print("migration %d: %.1f s, %d rounds, %d MiB, stopped for %d ms; RAM, registers and chips are the same; %d pages checked so far" % (
            n, took, ram["dirty-sync-count"], ram["transferred"] >> 20, info.get("downtime", -1), pages), flush=True)
        return target

    def job(self, m, command, **arguments):
        m.qmp(command, job_id="j", **arguments)
        while True:
            j = [x for x in m.qmp("query-jobs") if x["id"] == "j"][0]
            if j["status"] == "concluded":
                m.qmp("job-dismiss", id="j")
                if "error" in j:
                    raise m.wrong("%s: %s" % (command, j["error"]))
                return
            time.sleep(0.05)

    def open_disk(self, m, new):
        path = os.path.join(self.folder, "disk.qcow2")
        if new:
            self.job(m, "blockdev-create", options={"driver": "file", "filename": path, "size": 0})
        m.qmp("blockdev-add", driver="file", filename=path, node_name="file")
        if new:
            self.job(m, "blockdev-create", options={"driver": "qcow2", "file": "file", "size": 1 << 30})
        m.qmp("blockdev-add", driver="qcow2", file="file", node_name="disk")

    def snapshot(self, m, n):
        begin = time.time()
        m.qmp("stop")
        pages, seconds = self.last(m)
        self.job(m, "snapshot-save", tag="s%d" % n, vmstate="disk", devices=["disk"])
        before = self.state(m, "saved")
        m.qmp("cont")
        _, _, end = self.goes_on(m, len(m.text()), pages, seconds)
        other = n % 4 == 3
        if other: # into a new process
            m.quit()
            m = self.start("-S")
            self.open_disk(m, False)
            end = 0
        else:
            m.qmp("stop")
            later, _ = self.last(m)
            if later <= pages:
                raise m.wrong("nothing happened between saving and loading")
        try:
            end = len(m.text())
            self.job(m, "snapshot-load", tag="s%d" % n, vmstate="disk", devices=["disk"])
            self.compare(m, "snapshot %d" % n, before, self.state(m, "loaded"))
            m.qmp("cont")
            self.goes_on(m, end, pages, seconds)
            if not other and self.report(m, end)[0] > later:
                raise m.wrong("the guest was not set back")
            self.job(m, "snapshot-delete", tag="s%d" % n, devices=["disk"])
        except BaseException:
            m.kill()
            raise
        print("snapshot %d: saved, gone on, loaded%s in %.1f s; RAM, registers and chips are the same" % (
            n, " in another process" if other else "", time.time() - begin), flush=True)
        return m

    def run(self):
        m = self.start("-S")
        try:
            self.open_disk(m, True)
            m.qmp("cont")
            begin = m.wait_text(r"churn: begins on (.*)$", 300)
            print("the guest's clock: " + begin.group(1))
            _, _, end = self.report(m, begin.end())
            self.report(m, end)
            for n in range(1, self.options.snapshots + 1):
                m = self.snapshot(m, n)
            if self.options.snapshots + self.options.migrations > 1:
                m.qmp("blockdev-del", node_name="disk")
                m.qmp("blockdev-del", node_name="file")
            for n in range(1, self.options.migrations + 1):
                m = self.migrate(m, n)
            m.quit()
        finally:
            m.kill()
        print("%d snapshots and %d migrations" % (self.options.snapshots, self.options.migrations))


def run():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(TOP, "build"))
    parser.add_argument("--migrations", type=int, default=2)
    parser.add_argument("--snapshots", type=int, default=2)
    parser.add_argument("--machine", default="q35")
    parser.add_argument("--engines", default="")
    parser.add_argument("--inject", default="")
    options = parser.parse_args()
    need_qemu(options.build)
    with tempfile.TemporaryDirectory() as folder:
        Test(options, folder).run()


sys.exit(main(run))
