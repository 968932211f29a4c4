# SPDX-License-Identifier: MIT
# Run by gdb (gdb-linux.sh) against Debian's kernel, in which a process sets the hostname to turn1, turn2, ... all the time, on any CPU.
import os
import sys
import gdb

sys.dont_write_bytecode = True
sys.path.insert(0, os.environ["HERE"])
from stub import check, clear, connect, finish, go, newest, value

DI, SI, IP = 0x70, 0x68, 0x80  # in the kernel's struct pt_regs, RDI of the system call
call = int(os.environ["SETHOSTNAME"], 16)
name = int(os.environ["UTS_NS"], 16) + 65  # of struct new_utsname, the second


def string(address):
    return gdb.parse_and_eval("(char *)%#x" % address).string()


def at_call(what):
    check(what + ": where", value("$pc"), call)
    regs = value("$rdi")
    wanted = string(value("*(long *)(%#x)" % (regs + DI)))  # user memory
    check(what + ": the argument", wanted[:4], "turn")
    check(what + ": its length", value("*(long *)(%#x)" % (regs + SI)), len(wanted))
    return int(wanted[4:])


connect()
check("two CPUs", len(gdb.selected_inferior().threads()), 2)
turn = 0
for kind in "break", "hbreak":
    gdb.execute("%s *%#x" % (kind, call))
    for _ in range(5):
        check(kind + ": why", go(), [newest()])
        now = at_call(kind)
        check(kind + ": the next turn", now, turn + 1 if turn else now)
        check(kind + ": the old name is still there", string(name), "turn%d" % (now - 1) if now > 1 else "(none)")
        turn = now
    clear()
    for _ in range(30):
        before = value("$pc"), value("$rcx")  # of a REP instruction an iteration is a step
        go("stepi")
        check("a step", (value("$pc"), value("$rcx")) != before, True)
        check("a step: in the kernel", value("$cs") & 3, 0)
# The kernel copies the new name: the digits behind "turn" change. A breakpoint stands in the code as well.
gdb.execute("break *%#x" % call)
go()
turn = at_call("before the watch")
gdb.execute("watch *(char *)%#x" % (name + 3 + len(str(turn))))
old = string(name)
check("watch: why", go(), [newest()])
check("watch: the name has changed", string(name) != old and string(name)[:4] == "turn", True)
clear()
# The guest ends its turns when it has this name.
gdb.execute("break *%#x" % call)
go()
at_call("the last")
clear()
argument = value("*(long *)(%#x)" % (value("$rdi") + DI))
gdb.selected_inferior().write_memory(argument, b"enough\0")
gdb.execute("set *(long *)(%#x) = 6" % (value("$rdi") + SI))
finish("detach")
