"""What the options of a mount mean before any file system sees them: flags, shortening, and the read-only form.

Pure functions over ``contract.mounts.Mount``, so that the real mounter and the fake host give one list the same
meaning. Clauses MNT-005, MNT-012 to MNT-014, MNT-027.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from refimpl.contract.mounts import Mount

PAGE_SIZE = 4096
"""Bytes of option data that mount(2) takes on common machines."""

_SHORTEN_FROM = PAGE_SIZE - 512

_FLAGS: dict[str, tuple[str, bool]] = {
    "ro": ("ro", True),
    "rw": ("ro", False),
    "nosuid": ("nosuid", True),
    "suid": ("nosuid", False),
    "nodev": ("nodev", True),
    "dev": ("nodev", False),
    "noexec": ("noexec", True),
    "exec": ("noexec", False),
    "sync": ("sync", True),
    "async": ("sync", False),
    "dirsync": ("dirsync", True),
    "remount": ("remount", True),
    "mand": ("mand", True),
    "nomand": ("mand", False),
    "noatime": ("noatime", True),
    "atime": ("noatime", False),
    "nodiratime": ("nodiratime", True),
    "diratime": ("nodiratime", False),
    "relatime": ("relatime", True),
    "norelatime": ("relatime", False),
    "strictatime": ("strictatime", True),
    "nostrictatime": ("strictatime", False),
    "bind": ("bind", True),
    "rbind": ("rbind", True),
}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """A list of options, told apart.

    Attributes:
        flags: the flags that are set, by mount(8)'s names (``ro``, ``bind``, ``rbind``, ``nosuid``, ...).
        data: what the file system gets, in order.
        loop: the source is a file to be attached to a loop device.
    """

    flags: frozenset[str]
    data: tuple[str, ...]
    loop: bool = False

    @property
    def bind(self) -> bool:
        """Whether this is a bind mount: the option makes it one, not the type (MNT-006)."""
        return bool(self.flags & {"bind", "rbind"})

    @property
    def read_only(self) -> bool:
        """Whether ``ro`` has the last word."""
        return "ro" in self.flags

    def value(self, name: str) -> str | None:
        """The value of the last data option ``name=value``; None without one."""
        prefix = name + "="
        return next((option[len(prefix) :] for option in reversed(self.data) if option.startswith(prefix)), None)


def parse_options(options: Sequence[str]) -> MountOptions:
    """Tell flags from data; of contradicting flags the last wins (MNT-005)."""
    flags: set[str] = set()
    data: list[str] = []
    loop = False
    for option in options:
        if option == "loop":
            loop = True
        elif option in _FLAGS:
            flag, on = _FLAGS[option]
            (flags.add if on else flags.discard)(flag)
        else:
            data.append(option)
    return MountOptions(frozenset(flags), tuple(data), loop)


def shorten_lower_directories(mount: Mount) -> tuple[str, Mount]:
    """The working directory and the mount to use for an overlay whose options are long (MNT-013, MNT-014).

    Returns:
        The directory common to all lower directories, with ``lowerdir`` relative to it and last; an empty directory and
        the mount unchanged when nothing has to or can be shortened.
    """
    if mount.type != "overlay" or sum(map(len, mount.options)) < _SHORTEN_FROM:
        return "", mount
    index = next((i for i, option in enumerate(mount.options) if option.startswith("lowerdir=")), None)
    if index is None:
        return "", mount
    lowers = mount.options[index].removeprefix("lowerdir=").split(":")
    common = _common_directory(lowers)
    if common in {"", "/"}:
        return "", mount
    relative = ":".join(lower.removeprefix(common).lstrip("/") for lower in lowers)
    others = mount.options[:index] + mount.options[index + 1 :]
    return common, replace(mount, options=(*others, f"lowerdir={relative}"))


def _common_directory(paths: Sequence[str]) -> str:
    if len(paths) < 2:
        return ""
    # Smallest and largest differ where any two do.
    low, high = min(paths), max(paths)
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:length].rpartition("/")[0] or "/"


def read_only_mounts(mounts: Sequence[Mount]) -> list[Mount]:
    """The same view without the means to write to it (MNT-027)."""
    return [_read_only(mount) for mount in mounts]


def _read_only(mount: Mount) -> Mount:
    if mount.type != "overlay":
        kept = tuple(option for option in mount.options if option not in {"ro", "rw"})
        return replace(mount, options=(*kept, "ro"))
    upper = next((o.removeprefix("upperdir=") for o in mount.options if o.startswith("upperdir=")), "")
    options = []
    for option in mount.options:
        if option.startswith(("workdir=", "upperdir=")):
            continue
        if upper and option.startswith("lowerdir="):
            option = f"lowerdir={upper}:{option.removeprefix('lowerdir=')}"  # noqa: PLW2901 - the one option that changes
        options.append(option)
    return replace(mount, options=tuple(options))
