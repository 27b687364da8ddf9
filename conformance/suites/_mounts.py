"""Words for the checks of mounts: directories in the subject's own world, and what a list of mounts shows there.

Nothing is mounted by the check itself. Directories are those of a snapshot, filled through ``Diff/Apply``; what mounts
show is told by ``Diff/Diff``, or by a task whose root file system they are. So a check cannot tell a fake world from a
real one.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.errors import AlreadyExists, ContainerdError
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.types import Descriptor

TAR = "application/vnd.oci.image.layer.v1.tar"
WHITEOUT = ".wh."

PLACED = frozenset({"diff", "content", "overlayfs"})
"""What a check needs for directories of its own."""

RUNNING = PLACED | {"runc"}
"""The same with tasks on them."""

RUNNING_OWN = RUNNING | {"in-process|spawn"}
"""The same on what the run has made itself: 1.6.20 leaves mounts behind that lie below a root file system (MNT-021)."""

HERE = RUNNING | {"disk"}
"""The same on this machine, whose mount table can be read."""


IDLE = ("sh", "-c", "exit")
"""A program for tasks that are made and not started."""


def bind(source: str, *options: str) -> Mount:
    """A recursive bind, as snapshotters answer with."""
    return Mount("bind", source, options=("rbind", *options))


def overlay(*options: str) -> Mount:
    """An overlay."""
    return Mount("overlay", "overlay", options=options)


def layer(*entries: str | tuple[str, bytes]) -> bytes:
    """An archive: ``"dir/"``, ``"empty file"``, ``(path, content)``; content makes a program."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for entry in entries:
            name, content = entry if isinstance(entry, tuple) else (entry, b"")
            header = tarfile.TarInfo(name.rstrip("/"))
            header.mode = 0o755 if content or name.endswith("/") else 0o644
            header.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return packed.getvalue()


def shell() -> bytes:
    """A shell that needs no libraries; a fake world brings its own programs and only wants to see a file."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed: there is no program for a root file system")
    return Path(busybox).read_bytes()


class Place:
    """A directory of the subject's world that is the check's own.

    Attributes:
        path: where it is in that world.
    """

    def __init__(self, ctx: CallContext, content: ContentStore, diff: Differ, snapshotter: Snapshotter) -> None:
        self._ctx, self._content, self._diff = ctx, content, diff
        (mount,) = snapshotter.prepare(ctx, f"place-{uuid.uuid4().hex[:8]}")
        self.path = mount.source

    def __truediv__(self, name: str) -> str:
        return f"{self.path}/{name}"

    def fill(self, *entries: str | tuple[str, bytes]) -> Place:
        """Put things there, as of ``layer``."""
        self.apply([bind(self.path, "rw")], *entries)
        return self

    def program(self, name: str) -> str:
        """A directory with a shell and all that a container wants to find; its path."""
        self.fill(f"{name}/", f"{name}/bin/", f"{name}/proc/", f"{name}/dev/", (f"{name}/bin/sh", shell()))
        return self / name

    def apply(self, mounts: Sequence[Mount], *entries: str | tuple[str, bytes]) -> None:
        """Let the subject perform mounts and unpack a layer onto them.

        Raises:
            ContainerdError: it refuses.
        """
        self._diff.apply(self._ctx, self._store(layer(*entries)), mounts)

    def _store(self, data: bytes) -> Descriptor:
        stored = Descriptor(TAR, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        with suppress(AlreadyExists):
            writer = self._content.writer(self._ctx, f"layer-{uuid.uuid4().hex}")
            try:
                writer.write(data)
                writer.commit(self._ctx, stored.size, stored.digest)
            finally:
                writer.close()
        return stored

    def compare(self, left: Sequence[Mount], right: Sequence[Mount]) -> dict[str, tarfile.TarInfo]:
        """Let the subject perform mounts and tell how they differ: the entries of the layer by path.

        Raises:
            ContainerdError: it refuses.
        """
        made = self._diff.compare(self._ctx, left, right, media_type=TAR, ref=f"seen-{uuid.uuid4().hex}")
        reader = self._content.reader(self._ctx, made.digest)
        try:
            data = reader.read_at(0, made.size)
        finally:
            reader.close()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {entry.name.removeprefix("./").rstrip("/"): entry for entry in tar}

    def names(self, *mounts: Mount) -> list[str]:
        """What lies at the top of what mounts show, performed exactly as given.

        Raises:
            ContainerdError: they cannot be performed.
        """
        return sorted(name.removeprefix(WHITEOUT) for name in self.compare(mounts, []) if "/" not in name)

    def refusal(self, *mounts: Mount) -> str:
        """Why mounts cannot be performed; empty if they can."""
        try:
            self.compare(mounts, [])
        except ContainerdError as error:
            return str(error)
        return ""

    def unwritable(self, *mounts: Mount) -> str:
        """Why nothing can be written through mounts; empty if something can (and was)."""
        try:
            self.apply(mounts, "written")
        except ContainerdError as error:
            return str(error)
        return ""


@pytest.fixture
def place(ctx: CallContext, content: ContentStore, diff: Differ, snapshotters: Callable[[str], Snapshotter]) -> Place:
    """A directory in the subject's world: ``place.fill("one/", "one/name")``, ``place / "one"``."""
    return Place(ctx, content, diff, snapshotters("overlayfs"))


# ------------------------------------------------------------------------------------------- the table of this machine


class Row:
    """A line of the mount table.

    Attributes:
        point: where it is mounted.
        source, type: what.
        options: of the mount and of its file system.
    """

    def __init__(self, line: str) -> None:
        self.source, self.point, self.type, options = map(_plain, line.split(" ")[:4])
        self.options = options.split(",")

    @property
    def lower(self) -> list[str]:
        """An overlay's lower directories as they are shown."""
        (found,) = [option.removeprefix("lowerdir=") for option in self.options if option.startswith("lowerdir=")]
        return found.split(":")


def _plain(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def table(below: Path) -> list[Row]:
    """What is mounted on a directory of this machine and below it, in the order of mounting."""
    rows = [Row(line) for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [row for row in rows if row.point == str(below) or row.point.startswith(f"{below}/")]


@contextmanager
def watched(below: Path) -> Iterator[list[Row]]:
    """Collects what is mounted below a directory at any moment of the block, each mount point with its options once."""
    found: dict[tuple[str, ...], Row] = {}
    rows: list[Row] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for row in table(below):
                found.setdefault((row.point, *row.options), row)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield rows
    finally:
        done.set()
        watcher.join()
        rows.extend(found.values())


def lowers(place: Place, count: int, *, pad: int = 0) -> list[str]:
    """Directories ``l.../N`` with a file ``nN`` each, whose names are ``pad`` characters longer than they must be."""
    top = "l" * (1 + pad % 200)
    stem = "/".join([top, *["d" * 199] * (pad // 200)])
    place.fill(*(f"{stem}/{number}/n{number}" for number in range(1, count + 1)))
    return [place / f"{stem}/{number}" for number in range(1, count + 1)]
