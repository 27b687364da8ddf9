"""Performing ``contract.mounts.Mount``: what a list of mounts means to Linux, and how it is undone.

For whoever mounts: temporary mounts (``mounter``), and the root file systems of containers.
Clauses MNT-002 to MNT-017, MNT-019 to MNT-023.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from refimpl.contract.errors import Unknown
from refimpl.contract.mount_options import PAGE_SIZE, MountOptions, parse_options, shorten_lower_directories
from refimpl.contract.mounts import Mount
from refimpl.linux.loop import attached
from refimpl.linux.mount import FLAGS, mount, unmount, unshare_working_directory
from refimpl.linux.mountinfo import mounted

_BUSY_ATTEMPTS, _BUSY_PAUSE = 50, 0.05  # seconds (MNT-022)


def mount_all(mounts: Sequence[Mount], target: str) -> None:
    """Perform mounts one on top of the other; after a failure nothing is mounted (MNT-002, MNT-003).

    Args:
        target: an existing directory (or, for a bind of a file, a file) on which nothing is mounted.

    Raises:
        OSError, Unknown: as of ``perform``; the first failure.
    """
    try:
        for each in mounts:
            perform(each, target)
    except BaseException:
        unmount_all(target)
        raise


def perform(each: Mount, target: str) -> None:
    """Perform one mount. The field ``target`` of 2.x means nothing, as in 1.6 (MNT-030).

    Raises:
        OSError: what the kernel says: ENOENT for a missing source, ENODEV for an unknown type, EINVAL for option data
            that the file system does not know.
        Unknown: more option data than a page takes (MNT-012); a helper program that failed (MNT-019).
    """
    if each.type.startswith(("fuse.", "fuse3.")):
        # Brings along what runs programs, for the few who have such a file system: a shim is small.
        from refimpl.linux.fuse import run_helper  # noqa: PLC0415

        run_helper(each, target)
        return
    common, shortened = shorten_lower_directories(each)
    options = parse_options(shortened.options)
    data = ",".join(options.data)
    if len(os.fsencode(data)) > PAGE_SIZE:
        raise Unknown("mount options is too long")
    flags = _bits(options)
    with ExitStack() as stack:
        source = each.source
        if options.loop:
            source = stack.enter_context(attached(source, read_only=options.read_only))
        if "remount" not in options.flags or data:
            _mount_in(common, source, target, each.type, flags, data)
    if options.bind and options.read_only:
        # A first bind takes no flags but its own: they come into effect by a second call (MNT-008).
        mount("", target, "", flags | FLAGS["remount"], "")


def _bits(options: MountOptions) -> int:
    bits = 0
    for flag in options.flags:
        bits |= FLAGS[flag]
    return bits


def _mount_in(directory: str, source: str, target: str, type: str, flags: int, data: str) -> None:
    """mount(2) in a working directory that only this call has (MNT-013, MNT-015)."""
    if not directory:
        mount(source, target, type, flags, data)
        return
    target = os.path.abspath(target)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            unshare_working_directory()
            os.chdir(directory)
            mount(source, target, type, flags, data)
        except BaseException as error:  # noqa: BLE001  # raised again by who waits
            failed.append(error)

    thread = threading.Thread(target=work, name="mount")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def unmount_all(target: str) -> None:
    """Undo every mount on a target, and what is mounted below it, deepest first (MNT-020, MNT-021).

    A target that is no mount point, that does not exist or that is empty is no error.

    Raises:
        OSError: EBUSY after 2.5 seconds in which the target was in use (MNT-022); other errors at once.
    """
    if not target:
        return
    while _unmount_one(target):
        pass


def _unmount_one(target: str) -> bool:
    """Undo the topmost mount; whether there was one."""
    _let_helper_unmount(target)
    for _ in range(_BUSY_ATTEMPTS):
        try:
            unmount(target)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOENT, errno.ENOTDIR}:
                return False
            if error.errno != errno.EBUSY:
                raise
            if not _unmount_below(target):
                time.sleep(_BUSY_PAUSE)
        else:
            return True
    raise OSError(errno.EBUSY, f"failed to unmount target {target}: {os.strerror(errno.EBUSY).lower()}")


def _unmount_below(target: str) -> bool:
    """Undo one mount below the target, the last made of those that are not busy; whether one was."""
    top = _place(target)
    below = [point for point, _, _ in mounted() if point.startswith(top + "/")]
    for point in reversed(below):
        with suppress(OSError):
            unmount(point)
            return True
    return False


def _let_helper_unmount(target: str) -> None:
    """Give a FUSE file system's own program the first try (MNT-023)."""
    top = _place(target)
    kinds = [kind for point, kind, _ in mounted() if point == top]
    if not kinds or not (kinds[-1] == "fuse" or kinds[-1].startswith("fuse.")):
        return
    from refimpl.linux.fuse import let_helper_unmount  # noqa: PLC0415  # as above

    let_helper_unmount(target)


def mount_points(below: str) -> list[str]:
    """The mount points in a directory, and itself if it is one, in the order of mounting; one for each mount."""
    top = _place(below)
    return [point for point, _, _ in mounted() if point == top or point.startswith(top.rstrip("/") + "/")]


def _place(target: str) -> str:
    """The path by which the mount table knows a target. The target itself is not looked at: its server may be dead."""
    folder, name = os.path.split(os.path.abspath(target))
    return os.path.join(os.path.realpath(folder), name)
