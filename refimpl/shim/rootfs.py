"""The root file system of a container: mounted by the shim, at create, and unmounted at delete (TSK-012 to TSK-014)."""

from __future__ import annotations

import os
from typing import Any

from refimpl.contract.errors import ContainerdError, Unknown
from refimpl.shim.children import Children


def mount_rootfs(children: Children, mounts: Any, target: str) -> None:
    """Perform the mounts of a create request one on top of the other; after a failure nothing is mounted.

    Args:
        mounts: messages ``containerd.types.Mount``.
        target: made if it is not there.

    Raises:
        Unknown: a mount failed.
    """
    if not mounts:
        return
    # Not at the top: a shim whose root file systems are mounted by somebody else does without.
    from refimpl.contract.mounts import Mount  # noqa: PLC0415
    from refimpl.linux.mounting import mount_all  # noqa: PLC0415

    wanted = [Mount(each.type, each.source, "", tuple(each.options)) for each in mounts]
    try:
        os.makedirs(target, mode=0o711, exist_ok=True)
        with children.left_alone():  # some file systems are mounted by programs
            mount_all(wanted, target)
    except (OSError, ValueError, ContainerdError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise Unknown(f"failed to mount rootfs component {wanted}: {reason}", bare=False) from error


def unmount_rootfs(children: Children, target: str) -> None:
    """Undo all mounts on a directory; one without mounts is no error.

    Raises:
        Unknown: it is in use.
    """
    if not _mounted(target):
        return
    from refimpl.linux.mounting import unmount_all  # noqa: PLC0415  # as above

    try:
        with children.left_alone():
            unmount_all(target)
    except OSError as error:
        raise Unknown(f"failed rootfs umount: {error}", bare=False) from error


def _mounted(target: str) -> bool:
    """Whether something is mounted on a directory or below it."""
    top = os.path.realpath(target)
    for word, code in (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012")):
        top = top.replace(word, code)
    # Lines end at a newline only: a mount point of somebody else's may hold whatever else ends a line in Python.
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as table:
        points = [line.split(" ", 5)[4] for line in table]
    return any(point == top or point.startswith(f"{top}/") for point in points)
