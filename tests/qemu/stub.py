# SPDX-License-Identifier: MIT
# For the scripts that gdb runs (gdb.py, linux.py): values, checks, running until the guest stops and why it did.
import os
import gdb

checks = 0
reason = []


def value(expression):
    return int(gdb.parse_and_eval(expression)) & (1 << 64) - 1


def check(what, got, want):
    global checks
    checks += 1
    if got != want:
        show = lambda v: hex(v) if isinstance(v, int) else repr(v)
        where = gdb.execute("info symbol $pc", to_string=True).split(" in section")[0]
        print("gdb: FAIL %s: got %s, want %s, at %#x %s" % (what, show(got), show(want), value("$pc"), where))
        gdb.execute("kill")
        gdb.execute("quit 1")


def go(command="continue"):
    """Until the guest stops; the numbers of the breakpoints that gdb takes for the reason."""
    global reason
    reason = []
    gdb.execute(command)
    return reason


def stopped(event):
    global reason
    reason = [b.number for b in event.breakpoints] if isinstance(event, gdb.BreakpointEvent) else []


def newest():
    return gdb.breakpoints()[-1].number


def clear():
    gdb.execute("delete")


def connect():
    gdb.events.stop.connect(stopped)
    gdb.execute("set pagination off")
    gdb.execute("set confirm off")
    gdb.execute("set architecture i386:x86-64")
    gdb.execute("target remote " + os.environ["STUB"])


def finish(command):
    """The last command is the guest's end, or leads to it."""
    print("gdb: %d checks" % checks)
    try:
        go(command)
    except gdb.error:
        pass  # QEMU ends with the guest
