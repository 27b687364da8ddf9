"""Files as a fake process sees them: paths from its working directory, permissions of its user, devices.

The root file system is what the runtime mounted for it; errors are ``OSError`` as Linux gives them.
"""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING

from refimpl.backends.fake.fs_inode import fail
from refimpl.backends.fake.stdio_streams import FileStream, FullStream, NullStream, Stream, ZeroStream
from refimpl.contract.mounts import FileStat, FileType

if TYPE_CHECKING:
    from refimpl.backends.fake.processes import FakeProcess

READ, WRITE, EXECUTE = 4, 2, 1

_SYMLINKS_MAX = 40
_MEMORY_DEVICES = {3: NullStream, 5: ZeroStream, 7: FullStream, 8: ZeroStream, 9: ZeroStream}
_TERMINALS = {"/dev/tty", "/dev/console", "/dev/pts/0"}
_DESCRIPTORS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def absolute(process: FakeProcess, path: str) -> str:
    """A path from the root of the process's file system."""
    return path if path.startswith("/") else f"{process.cwd.rstrip('/')}/{path}"


def stat(process: FakeProcess, path: str) -> FileStat:
    """stat(2): a final symlink is followed."""
    return process.image.root.lstat(real_path(process, path))


def real_path(process: FakeProcess, path: str) -> str:
    """The path of what a final symlink leads to."""
    root, at = process.image.root, absolute(process, path)
    for _ in range(_SYMLINKS_MAX):
        if root.lstat(at).type is not FileType.SYMLINK:
            return at
        target = root.readlink(at)
        at = target if target.startswith("/") else f"{at.rstrip('/').rpartition('/')[0]}/{target}"
    raise fail(errno.ELOOP, path)


def check_access(process: FakeProcess, found: FileStat, wanted: int, path: str) -> None:
    """What the mode of a file allows to the process's user.

    Raises:
        OSError: EACCES.
    """
    image = process.image
    if image.uid == 0:
        allowed = 7 if found.type is FileType.DIRECTORY or found.mode & 0o111 else 6
    elif image.uid == found.uid:
        allowed = found.mode >> 6
    elif found.gid == image.gid or found.gid in image.groups:
        allowed = found.mode >> 3
    else:
        allowed = found.mode
    if wanted & ~allowed:
        raise fail(errno.EACCES, path)


def check_directory(process: FakeProcess, path: str) -> None:
    """Whether an entry at ``path`` may be made or taken away.

    Raises:
        OSError: EACCES, ENOENT.
    """
    above = absolute(process, path).rstrip("/").rpartition("/")[0] or "/"
    check_access(process, stat(process, above), WRITE | EXECUTE, path)


def open_file(process: FakeProcess, path: str, mode: str = "r") -> Stream:
    """Open a file: to read (``r``), or to write, emptied (``w``), at its end (``a``) or as it is (``+``)."""
    at = absolute(process, path)
    special = _special(process, at)
    if special is not None:
        return special
    try:
        found = stat(process, at)
    except FileNotFoundError:
        if mode == "r":
            raise
        return _create(process, at, mode)
    check_access(process, found, READ if mode == "r" else WRITE, path)
    if found.type is FileType.DIRECTORY:
        # Reading one fails later than opening it, but no program here reads before it has opened.
        raise fail(errno.EISDIR, path)
    if found.type is FileType.CHAR:
        return _device(found, path)
    root = process.image.root
    if mode in {"r", "+"}:
        return FileStream(root.open(at, "rb" if mode == "r" else "r+b"))
    return FileStream(root.open(at, f"{mode}b"), append=mode == "a")


def _create(process: FakeProcess, at: str, mode: str) -> Stream:
    root = process.image.root
    check_directory(process, at)
    if root.exists(at):  # a symlink to nowhere: its target is made
        return FileStream(root.open(at, "wb"), append=mode == "a")
    root.mknod(at, FileType.FILE, 0o666 & ~process.umask)
    own(process, at)
    return FileStream(root.open(at, "r+b"), append=mode == "a")


def own(process: FakeProcess, at: str) -> None:
    """Give what was made to the process's user."""
    if process.image.uid or process.image.gid:
        found = process.image.root.lstat(at)
        # A set-gid directory has chosen the group already.
        gid = found.gid or process.image.gid
        process.image.root.lchown(at, process.image.uid, gid)


def _special(process: FakeProcess, at: str) -> Stream | None:
    number = _DESCRIPTORS.get(at)
    for prefix in ("/dev/fd/", "/proc/self/fd/"):
        if at.startswith(prefix) and at.removeprefix(prefix).isdecimal():
            number = int(at.removeprefix(prefix))
    if number is not None:
        return process.stream(number).dup()
    if at in _TERMINALS:
        return _terminal(process, at)
    return None


def _device(found: FileStat, path: str) -> Stream:
    major, minor = found.device
    if major == 1 and minor in _MEMORY_DEVICES:
        return _MEMORY_DEVICES[minor]()
    raise fail(errno.ENXIO, path)


def _terminal(process: FakeProcess, path: str) -> Stream:
    for stream in process.streams.values():
        if stream.terminal is not None:
            return stream.terminal.dup()
    raise fail(errno.ENXIO, path)


def read_all(process: FakeProcess, path: str) -> bytes:
    """The whole content of a file; with ``-`` of the standard input."""
    if path == "-":
        out = io.BytesIO()
        while data := process.read(0):
            out.write(data)
        return out.getvalue()
    stream = open_file(process, path)
    try:
        out = io.BytesIO()
        while data := stream.read(process, 1 << 16):
            process.checkpoint()
            out.write(data)
        return out.getvalue()
    finally:
        stream.close()
