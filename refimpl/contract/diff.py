"""Differs: a layer's archive from two trees, and a tree from a layer's archive (``io.containerd.differ.v1``).

A *layer* is a tar archive of what changed from one tree to the next; what is gone is said by *whiteouts*, empty files
named ``.wh.NAME``. Its *diff id* is the digest of the plain archive, whatever the blob is compressed with.
Clauses DIF-001 to DIF-069.
"""

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

        Digest and size of the answer cover the whole stream, also what stands behind the archive (DIF-001, DIF-002).
        Nothing leaves the root (DIF-035 to DIF-038). Applying a blob twice gives the same tree (DIF-040).

        Args:
            payloads: arguments for stream processors, by their id (DIF-043).

        Raises:
            NotFound: no such blob in the caller's namespace (DIF-009).
            Unimplemented: this differ leaves such mounts or media types to the next one (DIF-046).
            InvalidArgument: no mounts (DIF-014).
            Unknown: a media type that nobody processes (DIF-007), mounts that fail (DIF-013), an archive that is
                damaged or asks for the impossible; what came before stays in the tree (DIF-039).
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

        Neither tree is changed (DIF-066). A blob that is there already is as good as a new one (DIF-051).

        Args:
            lower, upper: empty lists stand for empty trees (DIF-055).
            media_type: of the blob; empty for a gzip-compressed OCI layer (DIF-049).
            ref: of the ingest, emptied first; empty for one that is drawn (DIF-054).
            labels: of the new blob's record, to which a compressed one's diff id is added (DIF-050).

        Raises:
            Unimplemented: a media type that this differ does not make (DIF-053).
            Unavailable: somebody else writes under ``ref`` (DIF-054).
            InvalidArgument: labels that are too long.
            Unknown: mounts that fail (DIF-055).
        """
        ...


class Differ(Applier, Comparer, Protocol):
    """Both directions."""
