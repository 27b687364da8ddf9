"""Differs: a layer's archive from two trees, and a tree from a layer's archive (``io.containerd.differ.v1``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount
from refimpl.contract.types import Descriptor, TypedAny


class Applier(Protocol):
    """Unpacks layers."""

    def apply(
        self,
        ctx: CallContext,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        payloads: Mapping[str, TypedAny] | None = None,
    ) -> Descriptor:
        """Apply the blob ``descriptor`` to what ``mounts`` show; answer with the uncompressed archive's descriptor.

        Args:
            payloads: arguments for stream processors, by their id.

        Raises:
            NotFound: no such blob.
            Unimplemented: a media type that this differ does not know.
            InvalidArgument, Unknown: an archive that is damaged or would leave the root.
        """
        ...


class Comparer(Protocol):
    """Packs layers."""

    def compare(
        self,
        ctx: CallContext,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str = "",
        ref: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Write what changed from ``lower`` to ``upper`` into the content store; answer with the blob's descriptor.

        Args:
            media_type: of the blob; empty for a gzip-compressed OCI layer.
            ref: of the ingest; empty for one that is drawn.
            labels: of the new blob's record.

        Raises:
            Unimplemented: a media type that this differ does not know.
        """
        ...


class Differ(Applier, Comparer, Protocol):
    """Both directions."""
