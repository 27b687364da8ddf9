"""How many heaps the threads of a process have."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import threading
from refimpl.linux.malloc import limit_arenas

if {most}:
    limit_arenas({most})
together = threading.Barrier(5)

def work():
    kept = bytes(50_000)
    together.wait()
    together.wait()

for _ in range(4):
    threading.Thread(target=work).start()
together.wait()
private = "rw-p 00000000 00:00 0".split()
lines = [line for line in open("/proc/self/maps") if line.split()[1:] == private]
starts = [int(line.partition("-")[0], 16) for line in lines]
print(sum(not start % (64 << 20) for start in starts))
together.wait()
"""


def heaps(most: int) -> int:
    """Heaps besides the main one: glibc makes each at a multiple of 64 MiB."""
    program = PROGRAM.format(most=most)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other heaps")
def test_threads_share_the_heaps_that_there_may_be() -> None:
    assert heaps(0) > 1
    assert heaps(2) == 1
    assert heaps(1) == 0
