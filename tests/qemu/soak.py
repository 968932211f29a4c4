# SPDX-License-Identifier: MIT
# soak.py --kernel=F --initrd=F [options]: a guest under stress-ng (tools/soak.sh makes its initramfs) while QMP stops it and lets it go on, switches dirty
# logging on and off (migrations begun and cancelled, dirty rates), squeezes its memory by the balloon, plugs a CPU in and out; the guest itself takes
# CPU 1 off line and back. Room for translated code is small, so that it is recycled all the time. Fails on whatever the guest's kernel
# complains of, a stressor that fails, a guest that is silent for 3 minutes, an error or unexpected end of QEMU, an internal error of a vCPU.
import argparse
import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import Machine, main, need_qemu

MEMORY_MIB = 1024
LEAST_MIB = 768
SILENCE = 180


class Soak:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.random = random.Random(options.seed)
        self.begin = time.time()
        self.counts, self.rates = {}, []
        self.plugged = None
        self.heard, self.heard_at = 0, time.time()
        self.stats = os.path.join(folder, "stats")
        launcher = ["--stats=" + self.stats] + (["--inject=" + options.inject] if options.inject else [])
        seconds = int(options.minutes * 60)
        self.m = Machine(os.path.abspath(options.build), folder, "soak", [
            "-M", options.machine, "-cpu", "host", "-smp", "2,maxcpus=3", "-m", str(MEMORY_MIB), "-kernel", options.kernel, "-initrd", options.initrd,
            "-device", "virtio-balloon-pci,id=balloon", "-append",
            "console=ttyS0 panic=-1 oops=panic softlockup_panic=1 loglevel=7 sysrq_always_enabled usekvm.soak=%d" % seconds], launcher,
            {"USEKVM_CODE_CACHE": str(options.code_cache)} if options.code_cache else {})

    def say(self, text):
        print("%6d s  %s" % (time.time() - self.begin, text), flush=True)

    def look(self):
        """Is all well?"""
        self.m.alive()
        text = self.m.text()
        if len(text) != self.heard:
            self.m.check_console()
            bad = re.search(r"^soak: FAILED.*", text, re.M)
            if bad:
                raise self.m.wrong("the guest says: " + bad.group(0))
            self.heard, self.heard_at = len(text), time.time()
        elif time.time() - self.heard_at > SILENCE:
            raise self.m.wrong("the guest has said nothing for %d s\n%s\n%s" % (SILENCE, self.m.hmp("info registers -a"), self.blocked()))
        status = self.m.status()
        if status != "running":
            raise self.m.wrong("the machine's state is " + status)

    def wait(self, seconds):
        end = time.time() + seconds
        while time.time() < end:
            self.look()
            time.sleep(min(1, max(0.05, end - time.time())))

    def blocked(self):
        """What the guest's tasks and CPUs wait for, as its kernel tells it on the console."""
        at = len(self.m.text())
        for key in "wl":
            self.m.qmp("send-key", keys=[{"type": "qcode", "data": k} for k in ("alt", "sysrq", key)], hold_time=200)
            time.sleep(5)
        return self.m.text()[at:]

    # ---- what is done to the machine ----

    def stop_and_go(self):
        for _ in range(self.random.randint(1, 10)):
            self.m.qmp("stop")
            if self.m.status() != "paused":
                raise self.m.wrong("stopped, the machine's state is " + self.m.status())
            time.sleep(self.random.choice((0, 0, 0.1, 2)))
            self.m.qmp("cont")
            time.sleep(self.random.random() / 2)

    def dirty_log_by_migration(self):
        self.m.qmp("migrate-set-parameters", max_bandwidth=20 << 20)
        self.m.qmp("migrate", uri="exec:cat >/dev/null")
        time.sleep(self.random.random() * 4)
        self.m.qmp("migrate_cancel")
        end = time.time() + 60
        while True:
            status = self.m.qmp("query-migrate").get("status")
            if status == "cancelled":
                return
            if status == "completed": # faster than the cancelling
                self.m.qmp("cont")
                return
            if status == "failed" or time.time() > end:
                raise self.m.wrong("a cancelled migration: %s" % self.m.qmp("query-migrate"))
            time.sleep(0.05)

    def dirty_log_by_rate(self):
        self.m.qmp("calc-dirty-rate", calc_time=1, mode="dirty-bitmap")
        end = time.time() + 60
        while True:
            r = self.m.qmp("query-dirty-rate")
            if r["status"] == "measured":
                self.rates.append(r["dirty-rate"]) # MiB/s; 0 for some stressors
                return
            if time.time() > end:
                raise self.m.wrong("no dirty rate: %s" % r)
            time.sleep(0.1)

    def balloon(self):
        want = self.random.randint(LEAST_MIB, MEMORY_MIB) << 20
        self.m.qmp("balloon", value=want)
        end = time.time() + 90
        while abs(self.m.qmp("query-balloon")["actual"] - want) > 4 << 20:
            self.look()
            if time.time() > end:
                raise self.m.wrong("the balloon has %d MiB after 90 s, not %d" % (self.m.qmp("query-balloon")["actual"] >> 20, want >> 20))
            time.sleep(0.2)

    def cpu(self):
        """A third CPU comes or goes. The guest brings it on line, and says so."""
        at = len(self.m.text())
        if not self.plugged:
            free = [c for c in self.m.qmp("query-hotpluggable-cpus") if "qom-path" not in c]
            self.plugged = "hot"
            self.m.qmp("device_add", driver=free[0]["type"], id="hot", **{k.replace("-", "_"): v for k, v in free[0]["props"].items()})
            self.m.wait_text(r"^soak: cpu 2 is there", 90, at)
        else:
            self.m.event("DEVICE_DELETED")
            self.m.qmp("device_del", id=self.plugged)
            end = time.time() + 90
            while not self.m.event("DEVICE_DELETED"):
                self.look()
                if time.time() > end:
                    raise self.m.wrong("the guest does not let the CPU go: %s, %s, %s\n%s" % (
                        self.m.qmp("query-cpus-fast"), self.m.qmp("query-hotpluggable-cpus"), self.m.events[-5:], self.blocked()))
                time.sleep(0.2)
            self.plugged = None
            self.m.wait_text(r"^soak: cpu 2 is gone", 30, at)

    # ---- all of it ----

    def progress(self):
        text = self.m.text()
        sets = re.findall(r"^soak: set (\d+) ok", text, re.M)
        offline = re.findall(r"^soak: cpu 1 off and on (\d+)", text, re.M)
        vcpus = [{x["name"]: x["value"] for x in s["stats"]} for s in self.m.qmp("query-stats", target="vcpu", providers=[
            {"provider": "kvm", "names": ["instructions", "unit_recyclings"]}])]
        recycled = sum(v.get("unit_recyclings", 0) for v in vcpus)
        self.say("%d sets of stressors done, CPU 1 off and on %s times, %s; code recycled %d times, %.1f G instructions interpreted" % (
            len(sets), offline[-1] if offline else 0, ", ".join("%s %d" % x for x in sorted(self.counts.items())), recycled,
            sum(v.get("instructions", 0) for v in vcpus) / 1e9))

    def run(self):
        actions = {"stop/cont": self.stop_and_go, "migration cancelled": self.dirty_log_by_migration, "dirty rate": self.dirty_log_by_rate,
                   "balloon": self.balloon, "CPU plugged": self.cpu}
        try:
            self.m.wait_text(r"^soak: begins", 300)
            self.say("the guest runs stress-ng")
            end, shown = time.time() + self.options.minutes * 60, time.time()
            while time.time() < end and "soak: stressors done" not in self.m.text():
                name = self.random.choice(list(actions))
                actions[name]()
                self.counts[name] = self.counts.get(name, 0) + 1
                self.wait(self.random.random() * 6)
                if time.time() - shown > 60:
                    self.progress()
                    shown = time.time()
            self.progress()
            self.m.qmp("balloon", value=MEMORY_MIB << 20)
            self.say("waiting for the guest to end")
            limit = time.time() + 600
            while not self.m.ended():
                text = self.m.text()
                if re.search(r"^soak: FAILED", text, re.M) or time.time() > limit:
                    raise self.m.wrong("the guest does not end well")
                self.m.check_console()
                time.sleep(0.5)
            self.m.wait_end(60)
            text = self.m.text()
            done = re.search(r"^soak: done, (\d+) sets", text, re.M)
            if not done or "soak: bad lines 0\n" not in text:
                raise self.m.wrong("the guest does not say that all is well")
            self.m.check_console()
            self.check_stats()
            if not any(self.rates):
                raise self.m.wrong("dirty rates of a busy guest: %s" % self.rates)
            if min(self.counts.get(name, 0) for name in actions) < 1:
                raise self.m.wrong("too short: %s" % self.counts)
            self.say("done: %s sets of stressors, %s" % (done.group(1), ", ".join("%s %d" % x for x in sorted(self.counts.items()))))
        finally:
            self.m.kill()

    def check_stats(self):
        stats = {}
        with open(self.stats) as f:
            for line in f:
                words = line.split()
                stats[" ".join(words[:-1])] = int(words[-1])
        if stats["exit internal_error"]:
            raise self.m.wrong("%d internal errors of vCPUs" % stats["exit internal_error"])
        if self.options.code_cache and stats["units"] and not stats["unit_recyclings"]:
            raise self.m.wrong("no translated code was recycled")
        self.say("units %d, recyclings %d, KVM_RUN calls %d, halts %d" % (
            stats["units"], stats["unit_recyclings"], stats["kvm_run_calls"], stats["halt_exits"]))


def run():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--initrd", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--machine", default="q35")
    parser.add_argument("--code-cache", type=int, default=1000000, help="bytes of translated code that a vCPU keeps; 0: as ever")
    parser.add_argument("--inject", default="")
    parser.add_argument("--folder", required=True, help="for the guest's console and the like, which stay")
    options = parser.parse_args()
    need_qemu(options.build)
    os.makedirs(options.folder, exist_ok=True)
    for f in os.listdir(options.folder):
        os.unlink(os.path.join(options.folder, f))
    Soak(options, options.folder).run()


sys.exit(main(run))
