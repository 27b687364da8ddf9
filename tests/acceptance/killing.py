"""A client that works on a daemon until that is killed, and knows afterwards what must be there.

What was acknowledged is kept in a ledger; the one call without an answer may have happened or not, and which of the
two is seen after the restart holds from then on.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

from refimpl.client import Client
from refimpl.client.archive import import_archive
from refimpl.client.leases import working_lease
from refimpl.client.unpack import unpack
from refimpl.contract.content import Info as BlobInfo
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount
from refimpl.linux.mounter import KernelMounter
from refimpl.testing import images

CTX = CallContext(namespace="killed")
ROOT = "containerd.io/gc.root"
SNAPSHOTTERS = ("overlayfs", "native")
MARK = "/etc/mark"

IMAGES, PIECE, PIECES = 6, 40_000, 5


def digest_of(data: bytes) -> str:
    """sha256 digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Archive:
    """An image archive, and what its blobs are.

    Attributes:
        name: the image's.
        data: the archive.
        mark: content of the file ``MARK`` in its only layer.
        config, chain: digest of the config, and of the layer's uncompressed bytes, which is its chain id.
        blobs: all that an image record keeps.
    """

    name: str
    data: bytes
    mark: bytes
    config: str
    chain: str
    blobs: frozenset[str]

    @classmethod
    def number(cls, number: int) -> Archive:
        """The archive of that number."""
        name, mark = f"test.invalid/image:{number}", random.Random(number).randbytes(300 * (number + 1))
        data = images.archive(name, files={MARK: mark}, env=(), command=("true",), labels={})
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            index = json.load(_there(files["index.json"]))
            target = index["manifests"][0]["digest"]
            manifest = json.load(_there(files[f"blobs/sha256/{target.removeprefix('sha256:')}"]))
        config, layer = manifest["config"]["digest"], manifest["layers"][0]["digest"]
        return cls(name, data, mark, config, layer, frozenset({target, config, layer}))

    def file(self) -> io.BytesIO:
        """The archive, to read from."""
        return io.BytesIO(self.data)


def _there(file: IO[bytes] | None) -> IO[bytes]:
    assert file is not None, "only plain files were asked for"
    return file


@dataclass(frozen=True)
class Key:
    """What a call makes or removes: ``image`` NAME, ``unpacked`` NAME in a snapshotter, ``snapshot``, ``blob``, ..."""

    kind: str
    name: str
    where: str = ""


@dataclass
class Ledger:
    """What a daemon has acknowledged.

    Attributes:
        present: what must be there.
        unsure: what may be there: the call that makes or removes it got no answer.
        uploads: ref -> bytes that were acknowledged, and the most that may have arrived.
    """

    present: set[Key] = field(default_factory=set)
    unsure: set[Key] = field(default_factory=set)
    uploads: dict[str, tuple[int, int]] = field(default_factory=dict)

    @contextmanager
    def making(self, key: Key) -> Iterator[None]:
        """Around the calls after which ``key`` is there."""
        self.unsure |= {key} - self.present
        yield
        self.unsure.discard(key)
        self.present.add(key)

    @contextmanager
    def removing(self, *keys: Key) -> Iterator[None]:
        """Around the call after which they are gone."""
        there = self.present & set(keys)
        self.present -= there
        self.unsure |= there
        yield
        self.unsure -= there

    def of(self, kind: str) -> list[Key]:
        """What must be there of a kind."""
        return sorted((key for key in self.present if key.kind == kind), key=str)

    def settle(self, is_there: Callable[[Key], bool]) -> None:
        """Look at what nobody knows."""
        self.present |= {key for key in self.unsure if is_there(key)}
        self.unsure.clear()


@cache
def thrown_away() -> Archive:
    """An image that no worker imports."""
    return Archive.number(IMAGES)


def upload_data(ref: str) -> bytes:
    """All bytes of an upload."""
    return random.Random(ref).randbytes(PIECE * PIECES)


class Worker:
    """Calls a daemon in an order that a seed decides.

    Args:
        ledger: kept up to date with every answer.
        archives: what it imports.
        scratch: for the mounts of the client.
    """

    def __init__(self, ledger: Ledger, chance: random.Random, scratch: Path) -> None:
        self.ledger, self._chance = ledger, chance
        self.archives = {archive.name: archive for archive in map(Archive.number, range(IMAGES))}
        self._mounter = KernelMounter(scratch)
        self._count = 0

    def work(self, client: Client) -> None:
        """Call until a call fails."""
        steps = [
            self._import,
            self._import,
            self._remove_image,
            self._keep,
            self._keep,
            self._drop,
            self._drop,
            self._upload,
        ]
        steps += [self._upload, self._upload, self._remove_blob, self._relabel]
        while True:
            self._chance.choice(steps)(client)

    def _import(self, client: Client) -> None:
        archive = self._chance.choice(list(self.archives.values()))
        snapshotter = self._chance.choice(SNAPSHOTTERS)
        with self.ledger.making(Key("image", archive.name)):
            [image] = import_archive(CTX, client, archive.file())
        with self.ledger.making(Key("unpacked", archive.name, snapshotter)):
            unpack(CTX, client, image.target, snapshotter)

    def _remove_image(self, client: Client) -> None:
        if found := self.ledger.of("image"):
            image = self._chance.choice(found)
            unpacked = [Key("unpacked", image.name, snapshotter) for snapshotter in SNAPSHOTTERS]
            with self.ledger.removing(image, *unpacked):
                client.images.delete(CTX, image.name, sync=self._chance.random() < 0.5)

    def _keep(self, client: Client) -> None:
        """Commit a snapshot with a file in it, above an unpacked image if there is one."""
        self._count += 1
        where, name = self._chance.choice(SNAPSHOTTERS), f"kept-{self._count}"
        below = [key for key in self.ledger.of("unpacked") if key.where == where]
        parent = self.archives[self._chance.choice(below).name].chain if below else ""
        snapshots = client.snapshotter(where)
        with working_lease(CTX, client.leases) as leased:
            mounts = snapshots.prepare(leased, f"work-{self._count}", parent)
            self._write(mounts, name)
            with self.ledger.making(Key("snapshot", name, where)):
                snapshots.commit(leased, name, f"work-{self._count}", {ROOT: "1"})

    def _write(self, mounts: list[Mount], text: str) -> None:
        with self._mounter.mounted(CTX, mounts) as tree:
            tree.write("/kept", text.encode())

    def _drop(self, client: Client) -> None:
        found = self.ledger.of("snapshot")
        # Few stay, or the end of a long run would look at little else.
        if len(found) > 3:
            key = self._chance.choice(found)
            with self.ledger.removing(key):
                client.snapshotter(key.where).remove(CTX, key.name)

    def _upload(self, client: Client) -> None:
        """Go on with an upload, or begin one; one that is complete becomes a blob."""
        if not self.ledger.uploads or (len(self.ledger.uploads) < 3 and self._chance.random() < 0.3):
            self._count += 1
            self.ledger.uploads[f"upload-{self._count}"] = (0, 0)
        ref = self._chance.choice(sorted(self.ledger.uploads))
        data, (offset, _) = upload_data(ref), self.ledger.uploads[ref]
        writer = client.content.writer(CTX, ref, total=len(data))
        try:
            if offset == len(data):
                with self.ledger.making(Key("blob", digest_of(data))):
                    writer.commit(CTX, len(data), digest_of(data), {ROOT: "1"})
                del self.ledger.uploads[ref]
                return
            piece = data[offset : offset + PIECE]
            self.ledger.uploads[ref] = (offset, offset + len(piece))
            writer.write(piece)
            self.ledger.uploads[ref] = (offset + len(piece), offset + len(piece))
        finally:
            writer.close()

    def _remove_blob(self, client: Client) -> None:
        if found := self.ledger.of("blob"):
            key = self._chance.choice(found)
            with self.ledger.removing(key):
                client.content.delete(CTX, key.name)

    def _relabel(self, client: Client) -> None:
        if found := self.ledger.of("blob"):
            label = f"labels.test/{self._chance.randrange(4)}"
            client.content.update(
                CTX, BlobInfo(self._chance.choice(found).name, labels={label[7:]: str(self._count)}), [label]
            )
