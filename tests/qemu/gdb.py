# SPDX-License-Identifier: MIT
# Run by gdb (gdb.sh) with the symbols of debugged.c, connected to QEMU's stub of a VM that has not started: breakpoints, watchpoints, steps and
# memory, each with what must be seen. Ends with "gdb: N checks", or with the first check that failed.
import os
import sys
import gdb

sys.dont_write_bytecode = True
sys.path.insert(0, os.environ["HERE"])
from stub import check, clear, connect, finish, go, newest, value

watched = {1: "char", 2: "short", 4: "int", 8: "long"}


def address(label):
    return value("(long) &" + label)


def at(label, what):
    check(what + ": where", value("$pc"), address(label))


def stop_at(kind, label, what=None):
    gdb.execute("%s *%s" % (kind, label))
    go()
    at(label, what or "%s %s" % (kind, label))
    clear()


def physical(on):
    gdb.execute("maintenance packet Qqemu.PhyMemMode:%d" % on, to_string=True)


def reset():
    check("reset: EIP", value("$pc") & 0xffff, 0xfff0)
    check("reset: CS", value("$cs"), 0xf000)
    check("reset: the BIOS's far jump", value("*(unsigned char *)0xfffffff0"), 0xea)
    target = value("*(unsigned short *)0xfffffff1")
    go("stepi")
    check("reset: a step over the far jump", value("$pc") & 0xffff, target)
    for _ in range(20):
        go("stepi")
    check("reset: still real mode", value("$cr0") & 1, 0)


def steps():
    def step(label, what, *registers):
        go("stepi")
        at(label, "step over " + what)
        for name, want in registers:
            check("step over %s: %s" % (what, name), value("$" + name), want)

    step("s1", "MOV", ("rcx", 0x1234))
    step("s2", "ADD", ("rcx", 0x1245))
    step("s3", "PUSHF")
    step("s4", "POP")
    step("s5", "MOV to memory")
    step("s6", "LEA", ("rdi", address("bytes")))
    step("s7", "MOV", ("rcx", 5))
    step("s8", "MOV")
    for n in range(4, 0, -1):
        step("s8", "an iteration of REP STOS", ("rcx", n), ("rdi", address("bytes") + 5 - n))
    step("s9", "the last iteration", ("rcx", 0))
    check("what REP STOS wrote", value("*(long *)&bytes"), 0x5A5A5A5A5A)
    sp = value("$rsp")
    step("s_sub", "CALL", ("rsp", sp - 8))
    step("s10", "RET", ("rsp", sp))
    step("s11", "PUSH")
    step("s12", "MOV")
    step("s13", "CPUID")
    check("CPUID: SSE2", value("$rdx") >> 26 & 1, 1)
    for n in range(14, 19):
        step("s%d" % n, "s%d" % (n - 1))
    step("s19", "IN", ("rax", 0x29C08086 if os.environ["MACHINE"] == "q35" else 0x12378086))
    step("s20", "MOV")
    step("s21", "a read of MMIO", ("rax", 10000000))
    for n in range(22, 29):
        step("s%d" % n, "s%d" % (n - 1))
    step("s29", "IRET", ("rsp", sp))


def calls():
    for n in range(1, 3):
        gdb.execute("break *called")
        go()
        at("called", "break")
        check("break: argument", value("$rdi"), n)
        check("break: the stack's return address is in test()", address("test") < value("*(long *)$rsp"), True)
    clear()
    gdb.execute("break *called_end if $rdi == 4")
    gdb.execute("hbreak *called if $rdi == 5")
    go()
    at("called_end", "break if")
    check("break if: result", value("$rax"), 12)
    go()
    at("called", "hbreak if")
    check("hbreak if: argument", value("$rdi"), 5)
    clear()
    go("stepi")
    at("called_end", "a step from a breakpoint that is gone")


def hot():
    stop_at("break", "rare")
    check("rare: turns", value("*(long *)&hot_count"), 60000)
    # The loop is translated code by now.
    for kind in "break", "hbreak":
        turn = value("*(long *)&hot_count")
        stop_at(kind, "hot_body", kind + " in hot code")
        check(kind + " in hot code: turns", value("*(long *)&hot_count"), turn)
        check(kind + " in hot code: rcx", value("$rcx"), 100000 - turn)
        go("stepi")
        check(kind + ", then a step", value("*(long *)&hot_count"), turn + 1)
    gdb.execute("hbreak *hot_body if $rcx == 39990")
    go()
    at("hot_body", "hbreak if in hot code")
    check("hbreak if in hot code: turns", value("*(long *)&hot_count"), 60010)
    clear()
    stop_at("hbreak", "hot_done")
    check("hot: turns", value("*(long *)&hot_count"), 100000)


def watches():
    def write(label, new, size=8, offset=0):
        kind = "watch *(%s *)((char *)&counter + %d)" % (watched[size], offset)
        gdb.execute(kind)
        why = go()
        at(label, kind)
        check(kind + ": value", value("*(long *)&counter"), new)
        check(kind + ": why", why, [newest()])
        clear()

    write("w0", 5)
    write("w1", 7, 4)
    write("w2", 9, 1)
    write("w3", 11, 2)
    write("w3a", 0)
    # One byte of what REP STOS writes: behind the iteration that did it.
    gdb.execute("watch *((char *)&bytes + 9)")
    go()
    at("w4a", "watch, REP STOS")
    check("watch, REP STOS: the iteration", value("$rcx"), 1)
    clear()
    gdb.execute("rwatch *(long *)&counter")
    why = go()
    at("r0", "rwatch")
    check("rwatch: why", why, [newest()])
    clear()
    # In hot code.
    stop_at("hbreak", "r1")
    gdb.execute("hbreak *r1 if $rcx == 59900")
    gdb.execute("awatch *(long *)&other")
    go()
    at("r1", "hbreak beside an awatch")
    clear()
    gdb.execute("awatch *(int *)&counter")
    go()
    at("r1", "awatch in hot code")
    check("awatch in hot code: the next turn", value("$rcx"), 59899)
    clear()
    # All four debug registers.
    gdb.execute("hbreak *spin")
    gdb.execute("hbreak *spin_end")
    gdb.execute("watch *(long *)&other")
    gdb.execute("hbreak *watched_end")
    go()
    at("watched_end", "four hardware breakpoints")
    clear()


def memory():
    for n, want in enumerate((0x1111222233334444, 0x5555666677778888, 0x99, (1 << 64) - 1)):
        check("memory: table[%d]" % n, value("*((long *)&table + %d)" % n), want)
    physical(1)
    check("physical memory", value("*((long *)&table + 1)"), 0x5555666677778888)
    check("physical memory: the image's multiboot magic", value("*(int *)0x100004"), 0x1badb002)
    physical(0)
    check("virtual memory of the page tables' second gigabyte", value("*(long *)((char *)&table + 0x40000000)"), 0x1111222233334444)
    try:
        value("*(long *)0x80000000")
        check("memory that is not mapped cannot be read", True, False)
    except gdb.MemoryError:
        check("memory that is not mapped cannot be read", True, True)
    gdb.execute("set *(long *)&from_gdb = 0x123456789abcdef0")


def spinning():
    """The shell interrupts gdb when it sees the guest say so."""
    # With a software breakpoint somewhere, INT3 of the guest comes to QEMU first.
    gdb.execute("break *take_here")
    go()
    check("interrupt: where", address("spin") <= value("$pc") < address("spin_end"), True)
    turns = value("*(long *)&spins")
    check("interrupt: the guest ran", turns > 0, True)
    go("stepi")
    check("interrupt, then a step: where", address("spin") <= value("$pc") < address("spin_end"), True)
    gdb.execute("set *(int *)&stop_spinning = 1")
    go()
    at("take_here", "on behind the interrupt")
    check("the turns went on", value("*(long *)&spins") >= turns, True)
    gdb.execute("set $rax = 0xfeedface12345678")
    clear()


connect()
reset()
stop_at("hbreak", "stepped")
check("CS of the guest", value("$cs"), 0x10)
memory()
steps()
calls()
hot()
watches()
spinning()
finish("continue")
