"""Loop devices: a file in the place of a block device (MNT-017)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_CONTROL = "/dev/loop-control"
_GET_FREE, _SET_FILE, _CLEAR_FILE, _SET_STATUS = 0x4C82, 0x4C00, 0x4C01, 0x4C04
_READ_ONLY, _AUTOCLEAR = 1, 4
_INFO = struct.Struct("=5Q4I64s64s32s2Q")  # struct loop_info64
_NAME = 63  # bytes of the file's name that a device keeps, for people who look
_ATTEMPTS = 100


@contextmanager
def attached(file: str, *, read_only: bool) -> Iterator[str]:
    """A loop device for a file.

    It is the kernel's as soon as it is mounted; what is not mounted when the block ends is free again, since the
    device clears itself when nobody has it open (autoclear).

    Yields:
        The device's path.

    Raises:
        OSError: the file cannot be opened, or there is no free device.
    """
    access = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC
    try:
        backing = os.open(file, access)
    except OSError as error:
        raise OSError(error.errno, f"could not open backing file: {error.strerror}", file) from None
    try:
        device, path = _device(backing, file, access)
    finally:
        os.close(backing)
    try:
        yield path
    finally:
        os.close(device)


def _device(backing: int, file: str, access: int) -> tuple[int, str]:
    """Open a device and give it the file; somebody else may take a free one first."""
    for _ in range(_ATTEMPTS):
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            number = fcntl.ioctl(control, _GET_FREE)
        finally:
            os.close(control)
        path = f"/dev/loop{number}"
        device = os.open(path, access)
        try:
            fcntl.ioctl(device, _SET_FILE, backing)
        except OSError as error:
            os.close(device)
            if error.errno == errno.EBUSY:
                continue
            raise
        _configure(device, file, read_only=access & os.O_ACCMODE == os.O_RDONLY)
        return device, path
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), _CONTROL)


def _configure(device: int, file: str, *, read_only: bool) -> None:
    flags = _AUTOCLEAR | (_READ_ONLY if read_only else 0)
    name = os.fsencode(file)[:_NAME]
    try:
        fcntl.ioctl(device, _SET_STATUS, _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0))
    except OSError:
        fcntl.ioctl(device, _CLEAR_FILE)
        os.close(device)
        raise
