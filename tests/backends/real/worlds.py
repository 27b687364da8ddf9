"""A kernel in which the differ is real and all else is fake: layers come from memory and go to the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refimpl.archive.media_types import TAR
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.errors import AlreadyExists
from refimpl.contract.mounts import Mount, TemporaryMounts
from refimpl.contract.types import Descriptor, TypedAny
from refimpl.kernel import assembled
from refimpl.kernel.config import Configuration, RefimplConfig, StreamProcessor

CTX = CallContext("default", lease="tests")
"""For calls whose blobs have to stay: this kernel collects garbage, the first time when it is a moment old."""


def bind(path: Path) -> list[Mount]:
    """A directory as a mount."""
    return [Mount("bind", str(path), options=("rbind", "rw"))]


def overlay(top: Path) -> list[Mount]:
    """An overlay of the directories ``lower``, ``upper`` and ``work``."""
    return [
        Mount("overlay", "overlay", options=tuple(f"{name}dir={top}/{name}" for name in ("upper", "work", "lower")))
    ]


@dataclass
class World:
    """The differ, the store it reads from, and where it mounts."""

    differ: Differ
    content: ContentStore
    mounts: Path

    def blob(self, data: bytes) -> str:
        """Store bytes, which may be there already; answers with their digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        with suppress(AlreadyExists):
            writer = self.content.writer(CTX, f"ref-{digest}")
            writer.write(data)
            writer.commit(CTX, len(data), digest)
        return digest

    def apply(
        self,
        data: bytes,
        mounts: Sequence[Mount],
        media_type: str = TAR,
        *,
        ctx: CallContext = CTX,
        payloads: Mapping[str, TypedAny] | None = None,
    ) -> Descriptor:
        """Store a layer and apply it."""
        return self.differ.apply(ctx, Descriptor(media_type, self.blob(data), len(data)), mounts, payloads)

    def blob_of(self, descriptor: Descriptor) -> bytes:
        """What a comparison has stored."""
        reader = self.content.reader(CTX, descriptor.digest)
        return reader.read_at(0, reader.size)


@contextmanager
def world(tmp_path: Path, processors: Mapping[str, StreamProcessor] | None = None) -> Iterator[World]:
    """Such a kernel; what the differ mounted must be gone at the end."""
    temporary = tmp_path / "tmpmounts"
    temporary.mkdir()
    configuration = Configuration(
        refimpl=RefimplConfig(backends={"io.containerd.differ.v1.walking": "real"}),
        stream_processors=dict(processors or {}),
    )
    with assembled(
        root=tmp_path / "root",
        state=tmp_path / "state",
        backends="fake",
        configuration=configuration,
        resources={TemporaryMounts: TemporaryMounts(str(temporary))},
        entry_points=False,
    ) as plugins:
        metadata: Any = plugins.get("io.containerd.metadata.v1")
        metadata.leases.create(CallContext(CTX.namespace), CTX.lease)
        differ: Any = plugins.get_by_id("io.containerd.differ.v1", "walking")
        yield World(differ, metadata.content, temporary)
    assert list(temporary.iterdir()) == [], "no mount point is left"
    assert str(temporary) not in Path("/proc/self/mounts").read_text(), "no mount is left"
