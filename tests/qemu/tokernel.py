# SPDX-License-Identifier: MIT
# tokernel.py --build=DIR: by hand only. A guest of one boot sector that counts is migrated, once, from QEMU under usekvm to QEMU on the kernel's own
# /dev/kvm. 60 s for all of it.
import argparse
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import Machine, Skip, main, need_qemu

# Real mode: counts at 0x600, a dot on QEMU's debug port each 65536 turns.
SECTOR = bytes.fromhex("31c0 8ed8"           # xor %ax, %ax; mov %ax, %ds
                       "66c7060006 00000000" # movl $0, 0x600
                       "66ff060006"          # 1: incl 0x600
                       "66a10006"            # mov 0x600, %eax
                       "66a9ffff0000"        # test $0xffff, %eax
                       "75ef"                # jnz 1b
                       "b02e e6e9"           # mov $'.', %al; out %al, $0xe9
                       "ebe9")               # jmp 1b


def run():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--cpu", default="qemu64,-svm,-vmx,-hypervisor")
    options = parser.parse_args()
    need_qemu(options.build)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skip("no /dev/kvm of the kernel's")
    end = time.time() + 60
    with tempfile.TemporaryDirectory() as folder:
        image, wire = os.path.join(folder, "sector"), os.path.join(folder, "wire")
        with open(image, "wb") as f:
            f.write(SECTOR.ljust(510, b"\0") + b"\x55\xaa")

        def start(name, kernel, *more):
            out = os.path.join(folder, name + ".dots")
            return Machine(options.build, folder, name, [
                "-M", "pc,kernel-irqchip=on", "-m", "16", "-cpu", options.cpu, "-drive", "file=%s,format=raw,if=floppy,readonly=on" % image,
                "-chardev", "file,id=dots,path=" + out, "-device", "isa-debugcon,iobase=0xe9,chardev=dots", *more], usekvm=not kernel), out

        def dots(path, n):
            while os.path.getsize(path) < n:
                if time.time() > end:
                    raise machines[-1].wrong("%d dots after 60 s" % os.path.getsize(path))
                for m in machines:
                    m.alive()
                time.sleep(0.1)

        machines = []
        try:
            source, out = start("source", False)
            machines.append(source)
            dots(out, 20)
            target, out2 = start("target", True, "-incoming", "unix:" + wire)
            machines.append(target)
            source.qmp("migrate", uri="unix:" + wire)
            while source.qmp("query-migrate")["status"] != "completed":
                target.alive()
                if time.time() > end or source.qmp("query-migrate")["status"] == "failed":
                    raise target.wrong("%s" % source.qmp("query-migrate"))
                time.sleep(0.1)
            count = source.hmp("xp /1wx 0x600")
            dots(out2, 5)
            print("migrated at %s; it counts on: %s" % (count.split()[-1], target.hmp("xp /1wx 0x600").split()[-1]))
            for m in machines:
                m.quit()
        finally:
            for m in machines:
                m.kill()


sys.exit(main(run))
