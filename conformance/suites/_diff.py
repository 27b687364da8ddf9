"""Words for the checks of the differ: archives made entry by entry, directories as mounts, and layers read back.

A check gets a ``bench``: a differ with the store that it reads from. Directories are those of snapshots without parent,
which every subject has and which are mounted with a bind mount, so that nothing but the differ is asked for anything
unusual; what the archives do to them is looked at through a mount of the check's own.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from conformance.fixtures import Mounted
from conformance.subjects.base import Subject
from conformance.suites._content import digest_of
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.errors import AlreadyExists
from refimpl.contract.mounts import FileStat, FileType, Mount, RootFS
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor, TypedAny

TAR = "application/vnd.oci.image.layer.v1.tar"
GZIP, ZSTD = f"{TAR}+gzip", f"{TAR}+zstd"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"

SERVICE = "containerd.services.diff.v1.Diff"
UNCOMPRESSED = "containerd.io/uncompressed"
ROOTED = {"containerd.io/gc.root": "1"}
"""Labels of what no collection may take."""

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""A value of ``security.capability``: revision 2, effective, CAP_NET_BIND_SERVICE permitted."""

Entry = tuple[str, dict[str, Any]]
Fill = Callable[[RootFS], object]


# ------------------------------------------------------------------------------------------------------------ archives


def tar(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive, padded to 10240 bytes as tar(1) does; ``data`` is an entry's content, all else is of ``TarInfo``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, fields in entries:
            member = tarfile.TarInfo(name)
            for key, value in fields.items():
                if key != "data":
                    setattr(member, key, value)
            data = fields.get("data", b"")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def file(name: str, data: bytes = b"x", **fields: Any) -> Entry:
    """A regular file."""
    return name, {"data": data, **fields}


def folder(name: str, **fields: Any) -> Entry:
    """A directory, mode 0755 unless said."""
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755, **fields}


def symlink(name: str, text: str, **fields: Any) -> Entry:
    """A symbolic link."""
    return name, {"type": tarfile.SYMTYPE, "linkname": text, **fields}


def hardlink(name: str, existing: str, **fields: Any) -> Entry:
    """A hard link."""
    return name, {"type": tarfile.LNKTYPE, "linkname": existing, **fields}


def special(name: str, type: bytes, **fields: Any) -> Entry:
    """An entry of another type."""
    return name, {"type": type, **fields}


def whiteout(name: str, **fields: Any) -> Entry:
    """An empty file, for names that begin with ``.wh.``."""
    return name, fields


def attributes(**values: str) -> dict[str, Any]:
    """Fields of an entry with extended attributes; ``__`` in a name stands for the dot."""
    return {"pax_headers": {f"SCHILY.xattr.{name.replace('__', '.')}": value for name, value in values.items()}}


SIMPLE = tar(file("a"))
"""A layer of one file."""


# --------------------------------------------------------------------------------------------------------------- trees


def paths(root: RootFS) -> list[str]:
    """Everything in a tree but its root, in the order of a walk."""
    return [path.removeprefix("/") for path, _ in root.walk() if path != "/"]


def put(root: RootFS, path: str, data: bytes = b"x", *, mode: int = 0o644, owner: int = 0, mtime: int = 1) -> None:
    """Write a file with everything that a comparison looks at; ``mtime`` in whole seconds."""
    root.write(path, data)
    root.lchown(path, owner, owner)
    root.chmod(path, mode)
    root.utime(path, mtime * SECOND, mtime * SECOND)


def settle(root: RootFS, mtime: int = 1) -> None:
    """Give everything in a tree the same time, so that only what a check changes afterwards is new."""
    for path, _ in root.walk():
        root.utime(path, mtime * SECOND, mtime * SECOND)


def picture(root: RootFS) -> dict[str, tuple[Any, ...]]:
    """A tree as a layer carries it: what equals between two trees that no layer can tell apart."""
    first: dict[int, str] = {}

    def seen(path: str, stat: FileStat) -> tuple[Any, ...]:
        linked = "" if stat.type is FileType.DIRECTORY else first.setdefault(stat.inode, path)
        content = root.read(path) if stat.type is FileType.FILE else b""
        text = root.readlink(path) if stat.type is FileType.SYMLINK else ""
        capability = root.xattrs(path).get("security.capability")
        own = (stat.type, stat.mode, stat.uid, stat.gid, stat.device, stat.mtime // SECOND)
        return (*own, linked, content, text, capability)

    return {path: seen(path, stat) for path, stat in root.walk() if path != "/"}


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of the subject's world.

    Attributes:
        path: absolute, as the subject's mounts name it.
    """

    path: str
    _mounted: Mounted

    @property
    def mounts(self) -> list[Mount]:
        """The directory as a mount."""
        return [Mount("bind", self.path, options=("rbind", "rw"))]

    @contextmanager
    def open(self) -> Iterator[RootFS]:
        """Look into it."""
        with self._mounted(self.mounts) as root:
            yield root

    def paths(self) -> list[str]:
        """What is in it."""
        with self.open() as root:
            return paths(root)

    def read(self, path: str) -> bytes:
        """The content of a file in it."""
        with self.open() as root:
            return root.read(path)

    def stat(self, path: str) -> FileStat:
        """An entry of it."""
        with self.open() as root:
            return root.lstat(path)


def overlay(upper: Place, work: Place, *lowers: Place) -> list[Mount]:
    """An overlay of directories, the nearest lower one first."""
    lower = ":".join(place.path for place in lowers)
    options = (f"workdir={work.path}", f"upperdir={upper.path}", f"lowerdir={lower}")
    return [Mount("overlay", "overlay", options=options)]


class Bench:
    """A differ, the store it reads from and writes to, and directories for it."""

    def __init__(
        self, ctx: CallContext, content: ContentStore, diff: Differ, snapshotter: Snapshotter, mounted: Mounted
    ) -> None:
        self.ctx, self.content, self.diff = ctx, content, diff
        self._snapshotter, self._mounted = snapshotter, mounted

    @classmethod
    def of(cls, instance: Subject, namespace: str = "bench") -> Bench:
        """The bench of an instance of the check's own."""
        content, diff, mounter = instance.content, instance.diff, instance.mounter
        assert content is not None, "the instance has a content store"
        assert diff is not None, "the instance has a differ"
        assert mounter is not None, "the instance's mounts can be performed"
        snapshotter = instance.snapshotter(instance.snapshotters[0])
        ctx = CallContext(namespace=namespace)
        return cls(ctx, content, diff, snapshotter, partial(mounter.mounted, ctx))

    def place(self, files: Mapping[str, bytes | str | None] | Fill | None = None) -> Place:
        """A new directory: empty, filled by a function, or with these files.

        Args:
            files: bytes are a file's content, a text is a symlink's, None makes a directory; parents are made.
        """
        mounts = self._snapshotter.prepare(self.ctx, f"place-{uuid.uuid4().hex[:12]}", labels=ROOTED)
        if len(mounts) != 1 or not {"bind", "rbind"} & set(mounts[0].options):
            pytest.skip("the subject's first snapshotter keeps no directories of its own")
        place = Place(mounts[0].source, self._mounted)
        if files is not None:
            with place.open() as root:
                if callable(files):
                    files(root)
                else:
                    _fill(root, files)
        return place

    def store(self, data: bytes, ctx: CallContext | None = None) -> str:
        """Keep a blob, which may be there already; answers with its digest."""
        where, digest = ctx or self.ctx, digest_of(data)
        writer = self.content.writer(where, f"blob-{uuid.uuid4().hex}", total=len(data))
        try:
            if data:
                writer.write(data)
            writer.commit(where, len(data), digest, ROOTED)
        except AlreadyExists:
            pass
        finally:
            writer.close()
        return digest

    def apply(
        self,
        data: bytes,
        onto: Place | Sequence[Mount],
        media_type: str = TAR,
        *,
        payloads: Mapping[str, TypedAny] | None = None,
        ctx: CallContext | None = None,
    ) -> Descriptor:
        """Store a layer and apply it."""
        mounts = onto.mounts if isinstance(onto, Place) else onto
        return self.diff.apply(
            ctx or self.ctx, Descriptor(media_type, self.store(data), len(data)), mounts, payloads or {}
        )

    def compare(self, old: Place | Sequence[Mount], new: Place | Sequence[Mount], **options: Any) -> Descriptor:
        """Store what turns ``old`` into ``new``."""
        lower, upper = (one.mounts if isinstance(one, Place) else one for one in (old, new))
        ctx = options.pop("ctx", self.ctx)
        return self.diff.compare(ctx, lower, upper, **options)

    def blob(self, digest: str) -> bytes:
        """The bytes of a blob."""
        reader = self.content.reader(self.ctx, digest)
        try:
            return b"".join(reader.read_at(at, 1 << 20) for at in range(0, reader.size, 1 << 20))
        finally:
            reader.close()

    def archive(self, layer: Descriptor) -> bytes:
        """The plain archive of a layer that was made by a comparison."""
        data = self.blob(layer.digest)
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data

    def members(self, layer: Descriptor) -> list[tarfile.TarInfo]:
        """The entries of a layer, in its order."""
        with tarfile.open(fileobj=io.BytesIO(self.archive(layer))) as archive:
            return archive.getmembers()

    def names(self, layer: Descriptor) -> list[str]:
        """The names of the entries, a directory's with a slash behind."""
        return [member.name + "/" * member.isdir() for member in self.members(layer)]


def _fill(root: RootFS, files: Mapping[str, bytes | str | None]) -> None:
    for name, what in files.items():
        path = "/" + name.strip("/")
        above = posixpath.dirname(path)
        if above != "/":
            root.makedirs(above)
        if what is None:
            root.makedirs(path)
        elif isinstance(what, str):
            root.symlink(what, path)
        else:
            root.write(path, what)


@pytest.fixture
def bench(
    ctx: CallContext, content: ContentStore, diff: Differ, subject: Subject, snapshotters: Any, mounted: Mounted
) -> Bench:
    """The bench of the check's own namespace."""
    return Bench(ctx, content, diff, snapshotters(subject.snapshotters[0]), mounted)
