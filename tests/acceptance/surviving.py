"""What a daemon that was killed and started again has to show: all that was acknowledged, and nothing half made."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from refimpl.backends.real.bolt.check import inspect
from refimpl.client import Client
from refimpl.client.archive import import_archive
from refimpl.client.unpack import SNAPSHOT
from refimpl.contract.errors import AlreadyExists, NotFound
from refimpl.contract.snapshots import Kind
from refimpl.linux.mounter import KernelMounter
from tests.acceptance.killing import (
    CTX,
    MARK,
    ROOT,
    SNAPSHOTTERS,
    Key,
    Worker,
    digest_of,
    thrown_away,
    upload_data,
)

PATIENCE_SECONDS = 60.0
_CONTENT = "io.containerd.content.v1.content"


def databases(root: Path) -> list[Path]:
    """Every database that a daemon has made below its root."""
    return sorted(root.glob("io.containerd.*/*.db"))


def check_databases(root: Path) -> None:
    """They are sound, as the process left them that was killed."""
    for path in databases(root):
        # A database that a kill hit at its birth has no page yet.
        if path.stat().st_size > 0:
            assert [str(problem) for problem in inspect(path, 5.0).problems] == [], path


class Survey:
    """One look at a daemon that has been restarted.

    Args:
        client: of that daemon.
        root: its root directory.
        worker, ledger: who worked on it, and what it acknowledged; the ledger is settled by the look.
        scratch: for the mounts of the look.
    """

    def __init__(self, client: Client, root: Path, worker: Worker, scratch: Path) -> None:
        self._client, self._root, self._ledger, self._archives = client, root, worker.ledger, worker.archives
        self._mounter = KernelMounter(scratch)

    def check(self, chance: random.Random, kills: int) -> None:
        """All of it; afterwards the garbage is gone.

        Args:
            chance: decides which snapshots are mounted.
            kills: how many there were on this root.
        """
        self._kills = kills
        self._settle()
        self._records()
        self._blobs()
        self._files(chance)
        # The clients that held these are dead as well.
        for lease in self._client.leases.list(CTX):
            self._client.leases.delete(CTX, lease.id)
        self._collect()
        self._nothing_else()
        self._settle()
        self._records()

    def _settle(self) -> None:
        ledger = self._ledger
        ledger.settle(self._is_there)
        for ref, (least, most) in list(ledger.uploads.items()):
            data = upload_data(ref)
            try:
                offset = self._client.content.status(CTX, ref).offset
            except NotFound:
                # Of one that was complete the commit may have been under way; else it had not begun to exist.
                assert least in {0, len(data)}, f"{ref} has lost {least} bytes"
                # It may be recorded all the same, for a day.
                with suppress(NotFound):
                    self._client.content.abort(CTX, ref)
                del ledger.uploads[ref]
                continue
            assert least <= offset <= most, f"{ref} has {offset} bytes, of {least} acknowledged"
            writer = self._client.content.writer(CTX, ref)
            assert (writer.status().offset, writer.digest()) == (offset, digest_of(data[:offset]))
            writer.close()
            ledger.uploads[ref] = (offset, offset)

    def _is_there(self, key: Key) -> bool:
        try:
            if key.kind == "image":
                self._client.images.get(CTX, key.name)
            elif key.kind == "unpacked":
                self._client.images.get(CTX, key.name)
                return key.where in self._unpacked(key.name)
            elif key.kind == "snapshot":
                self._client.snapshotter(key.where).stat(CTX, key.name)
            else:
                self._client.content.info(CTX, key.name)
        except NotFound:
            return False
        return True

    def _unpacked(self, image: str) -> list[str]:
        """The snapshotters that an image was unpacked to, as its config says."""
        labels = self._client.content.info(CTX, self._archives[image].config).labels
        return [name for name in SNAPSHOTTERS if f"{SNAPSHOT}.{name}" in labels]

    def _records(self) -> None:
        lost = [key for key in self._ledger.present if not self._is_there(key)]
        assert lost == [], "acknowledged, and gone"
        images = {image.name for image in self._client.images.list(CTX)}
        assert images == {key.name for key in self._ledger.of("image")}

    def _blobs(self) -> None:
        """Whatever is listed is whole; what an image needs is there."""
        listed = {info.digest: info.size for info in self._client.content.walk(CTX)}
        for digest, size in listed.items():
            reader = self._client.content.reader(CTX, digest)
            assert digest_of(reader.read_at(0, size + 1)) == digest
            reader.close()
        assert self._needed() <= set(listed)

    def _needed(self) -> set[str]:
        needed = {key.name for key in self._ledger.of("blob")}
        return needed.union(*(self._archives[key.name].blobs for key in self._ledger.of("image")))

    def _files(self, chance: random.Random) -> None:
        """What a committed snapshot holds: of two of them, because mounts take time."""
        marks = {archive.chain: archive.mark for archive in self._archives.values()}
        found = [
            (where, info)
            for where in SNAPSHOTTERS
            for info in self._client.snapshotter(where).walk(CTX)
            if info.kind is Kind.COMMITTED
        ]
        for where, info in chance.sample(found, min(2, len(found))):
            snapshots = self._client.snapshotter(where)
            try:
                mounts = snapshots.view(CTX, "look", info.name, {ROOT: "1"})
            except NotFound:
                assert info.name not in self._held(where), "a collection may take what nothing holds, at any moment"
                continue
            try:
                with self._mounter.mounted(CTX, mounts, read_only=True) as tree:
                    if info.name in marks:
                        assert tree.read(MARK) == marks[info.name]
                    else:
                        assert tree.read("/kept") == info.name.encode()
                    if info.parent:
                        assert tree.read(MARK) == marks[info.parent]
            finally:
                snapshots.remove(CTX, "look")

    def _collect(self) -> None:
        """Delete content and an image, and leave snapshots that nothing holds.

        So the collector looks at everything: at bytes only after a deletion of content, at the directories of a
        snapshotter only when it removes one of its snapshots.
        """
        data, content = b"thrown away", self._client.content
        writer = content.writer(CTX, "thrown away")
        try:
            writer.write(data)
            writer.commit(CTX, len(data), digest_of(data), {ROOT: "1"})
        except AlreadyExists:
            pass  # the last look was not finished
        finally:
            writer.close()
        content.delete(CTX, digest_of(data))
        for where in SNAPSHOTTERS:
            self._client.snapshotter(where).prepare(CTX, "thrown away")
        archive = thrown_away()
        import_archive(CTX, self._client, archive.file())
        self._client.images.delete(CTX, archive.name, sync=True)

    def _nothing_else(self) -> None:
        """Records, blobs, ingests, directories and mounts are those that somebody stands for."""
        content = self._client.content
        _same("blobs", lambda: {info.digest for info in content.walk(CTX)}, self._needed)
        blobs = self._root / _CONTENT / "blobs" / "sha256"
        _same("files", lambda: {f"sha256:{path.name}" for path in blobs.iterdir()}, self._needed)
        _same("ingests", lambda: {each.ref for each in content.list_statuses(CTX)}, lambda: set(self._ledger.uploads))
        ingests = self._root / _CONTENT / "ingest"
        _same("uploads", lambda: len(list(ingests.iterdir())), lambda: len(self._ledger.uploads))
        for where in SNAPSHOTTERS:
            self._no_other_snapshots(where)
        left = list((self._root / "tmpmounts").iterdir())
        # A kill beside a mount leaves the directory for it, empty and for good, in containerd as well (MNT-026).
        assert len(left) <= self._kills
        assert [path for path in left if any(path.iterdir())] == []
        mounted = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        assert f" {self._root}/" not in mounted

    def _no_other_snapshots(self, where: str) -> None:
        snapshots = self._client.snapshotter(where)
        _same(f"{where}: snapshots", lambda: {info.name for info in snapshots.walk(CTX)}, lambda: self._held(where))
        folders = self._root / f"io.containerd.snapshotter.v1.{where}" / "snapshots"
        if where == "overlayfs":
            _same(f"{where}: folders", lambda: len(list(folders.iterdir())), lambda: len(self._held(where)))
        else:
            # It has no clean-up: what a kill leaves of a snapshot stays there, in containerd as well (SNX-035).
            assert 0 <= len(list(folders.iterdir())) - len(self._held(where)) <= self._kills

    def _held(self, where: str) -> set[str]:
        """The snapshots of a snapshotter that an image or a label keeps, and those below them."""
        snapshots = self._client.snapshotter(where)
        kept = {key.name for key in self._ledger.of("snapshot") if key.where == where}
        kept |= {snapshots.stat(CTX, name).parent for name in kept} - {""}
        images = [key.name for key in self._ledger.of("image") if where in self._unpacked(key.name)]
        return kept | {self._archives[name].chain for name in images}


def _same(what: str, seen: Callable[[], object], wanted: Callable[[], object]) -> None:
    """Wait until it is so: what a collection lets go of is removed from the disk after its answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := seen()) != (expected := wanted()):
        assert time.monotonic() < deadline, f"{what}: {found} instead of {expected}"
        time.sleep(0.02)
