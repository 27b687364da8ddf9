"""Snapshotters whose storage this room does not hold: aufs, btrfs, devmapper and zfs.

On a host that cannot have them, each says what containerd's plugin says there, as a skip or as an error. Where the host
could have one, it is skipped with that as its reason. Clauses SNX-037, SNX-038, SNX-045, SNX-047 to SNX-049, SNX-064,
SNX-070. Twins, which work: refimpl.backends.fake.snapshotters.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from refimpl.contract.errors import Unknown
from refimpl.contract.quoting import quoted
from refimpl.kernel import InitContext, SkipPlugin
from refimpl.linux.filesystems import mount_of
from refimpl.snapshots.config import check_fs_type, check_size

_SECONDS = 10.0
"""How long a program may take to say whether the kernel has what it needs."""

_FILESYSTEMS = Path("/proc/filesystems")


class CommandError(Exception):
    """A program that failed.

    Attributes:
        output: all that it printed.
    """

    def __init__(self, text: str, output: str = "") -> None:
        super().__init__(text)
        self.output = output


def _unsupported(what: str) -> SkipPlugin:
    return SkipPlugin(f"layers on {what} are not supported by this implementation yet")


def _root(ic: InitContext) -> str:
    """The effective directory, told to whoever asks what the plugin exports (SNX-003)."""
    root = ic.exports["root"] = str(ic.config.root_path or ic.root)
    return root


def run(*argv: str) -> None:
    """Run a program for its exit status.

    Raises:
        CommandError: it is not installed, takes too long or fails.
    """
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise CommandError(f"exec: {quoted(argv[0])}: executable file not found in $PATH") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(str(error)) from error
    if done.returncode:
        output = done.stdout.decode(errors="replace")
        status = f"exit status {done.returncode}" if done.returncode > 0 else f"signal: {-done.returncode}"
        raise CommandError(status, output)


def aufs(ic: InitContext) -> object:
    """Skipped where the kernel has no aufs, even after an attempt to load it (SNX-070).

    Raises:
        SkipPlugin: always.
    """
    _root(ic)
    reason = ""
    try:
        run("modprobe", "aufs")
    except CommandError as error:
        # Built into the kernel, it needs no module.
        reason = f" (modprobe aufs failed: {error} {quoted(error.output)})"
    if "\taufs\n" not in _FILESYSTEMS.read_text():
        raise SkipPlugin(f"aufs is not supported{reason}")
    raise _unsupported("aufs")


def btrfs(ic: InitContext) -> object:
    """Skipped where ROOT is not on btrfs (SNX-037); ROOT is made, one level deep (SNX-038).

    Raises:
        SkipPlugin: always, but for:
        Unknown: the directory above ROOT is missing.
    """
    root = _root(ic)
    try:
        os.mkdir(root, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise Unknown(f"mkdir {root}: {(error.strerror or '').lower()}") from error
    type = mount_of(root).type
    if type != "btrfs":
        raise SkipPlugin(f"path {root} ({type}) must be a btrfs filesystem to be used with the btrfs snapshotter")
    raise _unsupported("btrfs")


def devmapper(ic: InitContext) -> object:
    """Fails without a pool in the configuration, and wherever that is wrong (SNX-045, SNX-047 to SNX-049).

    Raises:
        Unknown: not configured, wrongly configured, or no device mapper here.
        SkipPlugin: everything is there.
    """
    config = ic.config
    if not config.pool_name:
        raise Unknown("devmapper not configured")
    check_size(config.base_image_size)
    check_fs_type(config.fs_type)
    root = config.root_path or str(ic.root)
    try:
        os.makedirs(root, 0o750, exist_ok=True)
    except OSError as error:
        at, reason = error.filename or root, (error.strerror or "").lower()
        raise Unknown(f"failed to create root directory: {root}: mkdir {at}: {reason}") from error
    for argv in [("dmsetup", "version"), *([("blkdiscard", "--version")] if config.discard_blocks else [])]:
        try:
            run(*argv)
        except CommandError as error:
            raise Unknown(_reason(error)) from error
    raise _unsupported("a thin pool")


def _reason(error: CommandError) -> str:
    """What the kernel said, as the program prints it; else how the program ended."""
    for number in errno.errorcode:
        if os.strerror(number) in error.output:
            return os.strerror(number).lower()
    return str(error)


def zfs(ic: InitContext) -> object:
    """Skipped where no zfs dataset is mounted at ROOT, which is not made (SNX-064).

    Raises:
        SkipPlugin: always.
    """
    root = _root(ic)
    try:
        point, type, _ = mount_of(root)
    except OSError:
        point, type = "", ""
    if type != "zfs" or point != os.path.realpath(root):
        raise SkipPlugin(f"path {root} must be a zfs filesystem to be used with the zfs snapshotter")
    raise _unsupported("zfs")
