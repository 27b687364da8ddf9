"""What turns one tree into another: both are walked side by side, in path order (DIF-058 to DIF-060)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from refimpl.archive.tar_header import bytes_of
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import FileStat, FileType, RootFS
from refimpl.contract.times import SECOND

_CAPABILITY = "security.capability"
_CHUNK = 1 << 18


class ChangeKind(Enum):
    """What became of an object."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Change:
    """One object of either tree.

    Attributes:
        path: absolute from the root.
        stat: of the upper tree's object; of the lower one's for a deletion.
    """

    kind: ChangeKind
    path: str
    stat: FileStat


def changes(ctx: CallContext, lower: RootFS, upper: RootFS) -> Iterator[Change]:
    """Every object but the root, by path compared name by name; nothing below a deleted directory.

    Raises:
        Canceled, DeadlineExceeded: nobody waits any more.
    """
    old_walk, new_walk = _below_root(lower), _below_root(upper)
    old, new = next(old_walk, None), next(new_walk, None)
    gone = ""
    while old or new:
        ctx.check()
        order = _compare(old, new)
        if order < 0:
            assert old is not None, "nothing sorts before an end"
            path, stat = old
            if not (gone and path.startswith(gone)):
                gone = path + "/" if stat.type is FileType.DIRECTORY else ""
                yield Change(ChangeKind.DELETED, path, stat)
            old = next(old_walk, None)
            continue
        assert new is not None, "nothing sorts before an end"
        path, stat = new
        if order > 0:
            yield Change(ChangeKind.ADDED, path, stat)
        else:
            assert old is not None, "both have the path"
            was = old[1]
            # What lay below a directory that is one no more goes with it: a type change is no deletion.
            turned = was.type is FileType.DIRECTORY and stat.type is not FileType.DIRECTORY
            gone = path + "/" if turned else ""
            kind = ChangeKind.UNCHANGED if _same(ctx, lower, upper, path, was, stat) else ChangeKind.MODIFIED
            yield Change(kind, path, stat)
            old = next(old_walk, None)
        new = next(new_walk, None)


def _below_root(fs: RootFS) -> Iterator[tuple[str, FileStat]]:
    return ((path, stat) for path, stat in fs.walk("/") if path != "/")


def _compare(old: tuple[str, FileStat] | None, new: tuple[str, FileStat] | None) -> int:
    """Negative if ``old`` comes first, 0 if both are of one path."""
    if old is None or new is None:
        return (old is None) - (new is None)
    if old[0] == new[0]:
        return 0
    return -1 if bytes_of(old[0]).split(b"/") < bytes_of(new[0]).split(b"/") else 1


def _same(ctx: CallContext, lower: RootFS, upper: RootFS, path: str, old: FileStat, new: FileStat) -> bool:
    """Whether an object is what it was (DIF-058)."""
    if (old.type, old.mode, old.uid, old.gid, old.device) != (new.type, new.mode, new.uid, new.gid, new.device):
        return False
    if lower.xattrs(path).get(_CAPABILITY) != upper.xattrs(path).get(_CAPABILITY):
        return False
    if new.type is FileType.DIRECTORY:
        return True
    if old.size != new.size or old.mtime != new.mtime:
        return False
    # Whole seconds on both sides may be all that some copy has left of the times: only then is the content read.
    if new.mtime % SECOND:
        return True
    if new.type is FileType.SYMLINK:
        return lower.readlink(path) == upper.readlink(path)
    return new.type is not FileType.FILE or _same_content(ctx, lower, upper, path)


def _same_content(ctx: CallContext, lower: RootFS, upper: RootFS, path: str) -> bool:
    with lower.open(path) as old, upper.open(path) as new:
        while True:
            ctx.check()
            piece = new.read(_CHUNK)
            if old.read(_CHUNK) != piece:
                return False
            if not piece:
                return True
