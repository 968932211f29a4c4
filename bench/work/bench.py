# SPDX-License-Identifier: MIT
# bench.py N: objects and method calls, dictionaries, lists, strings, integers.
import sys


class Node:
    def __init__(self, value, next):
        self.value = value
        self.next = next

    def step(self, k):
        return (self.value * 31 + k) & 0xFFFFF


def queens(n, row=0, cols=0, d1=0, d2=0):
    if row == n:
        return 1
    found = 0
    for c in range(n):
        if not (cols >> c & 1 or d1 >> (row + c) & 1 or d2 >> (row - c + n) & 1):
            found += queens(n, row + 1, cols | 1 << c, d1 | 1 << (row + c), d2 | 1 << (row - c + n))
    return found


total = 0
count = {}
for i in range(int(sys.argv[1])):
    node = None
    for k in range(150):
        node = Node(k + i, node)
    while node:
        total = total + node.step(total) & 0xFFFFFFFF
        node = node.next
    for w in ("%d:%x" % (total % 997, i)).split(":") * 20:
        count[w] = count.get(w, 0) + len(w)
    squares = [x * x % 1009 for x in range(200)]
    squares.sort()
    total += sum(squares[::7]) + queens(5)
print(total, sum(count.values()), len(count))
