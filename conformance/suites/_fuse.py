"""A FUSE file system with nothing in it: one empty directory, served by this process."""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refimpl.linux.mount import mount
from refimpl.linux.mounting import mount_points

_REQUEST = struct.Struct("<2I2Q4I")  # length, opcode, unique, node, uid, gid, pid, padding
_ANSWER = struct.Struct("<IiQ")  # length, error, unique
_FORGET, _GETATTR, _STATFS, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _DESTROY = 2, 3, 17, 26, 27, 28, 29, 38
_LARGEST = 1 << 17  # bytes of a request
_TURN = 0.05  # seconds between two looks at whether it is over

_ANSWERS = {
    # Protocol 7.31: nothing that is offered is taken; writes of a page.
    _INIT: struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 1, 1, 4096, 1, 0, 0, *[0] * 8),
    # Valid for an hour: number, size, blocks, three times, their fractions, mode, links, owner, group, device, block.
    _GETATTR: struct.pack("<Q2I6Q10I", 3600, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 512, 0),
    _STATFS: struct.pack("<5Q4I6I", 0, 0, 0, 1, 0, 512, 255, 512, 0, *[0] * 6),
    _OPENDIR: struct.pack("<Q2I", 1, 0, 0),
    _READDIR: b"",
    _RELEASEDIR: b"",
}


@contextmanager
def served(target: Path) -> Iterator[None]:
    """Such a file system is mounted on a directory, at least until somebody unmounts it."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    done = threading.Event()
    server = threading.Thread(target=_serve, args=(device, done))
    try:
        mount("conform", str(target), "fuse", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0")
        server.start()
        assert str(target) in mount_points(str(target))
        yield
    finally:
        done.set()
        if server.ident is not None:
            server.join()
        # Whoever still waits for an answer is told that there is nobody.
        os.close(device)


def _serve(device: int, done: threading.Event) -> None:
    while not done.is_set():
        if not select.select([device], [], [], _TURN)[0]:
            continue
        try:
            request = os.read(device, _LARGEST)
        except BlockingIOError:
            continue
        except OSError:
            return  # it was unmounted
        _, opcode, unique, *_ = _REQUEST.unpack_from(request)
        if opcode in {_FORGET, _DESTROY}:
            continue
        data = _ANSWERS.get(opcode)
        error = 0 if data is not None else -errno.ENOSYS
        try:
            os.write(device, _ANSWER.pack(_ANSWER.size + len(data or b""), error, unique) + (data or b""))
        except OSError:
            return
