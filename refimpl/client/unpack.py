"""Unpack: an image's layers into the snapshots of a snapshotter, through snapshots and diff only (IMG-034 to 037).

Layer by layer: prepare above the last chain id, apply, compare what was applied with the config's diff id, commit under
the chain id. A chain id that is there already is not done again, so images share their common layers.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from refimpl.client.archive import Stores
from refimpl.client.docker_archive import UNCOMPRESSED
from refimpl.client.leases import working_lease
from refimpl.client.manifests import children, choose, config_of
from refimpl.client.platforms import Choice
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.errors import AlreadyExists, ContainerdError, FailedPrecondition, InvalidArgument, NotFound
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.types import Descriptor

SNAPSHOT = "containerd.io/gc.ref.snapshot"
"""Label of a config, continued by a snapshotter's name: the snapshot that the image was unpacked to."""

TARGET = "containerd.io/snapshot.ref"
"""Label of a prepared snapshot: the chain id that it is for. A snapshotter that can fetch layers itself looks at it."""


class Machine(Stores, Protocol):
    """Where an image is unpacked: a ``Client``, or any object with these parts."""

    @property
    def diff(self) -> Differ:
        """Applies the layers."""
        ...

    def snapshotter(self, name: str) -> Snapshotter:
        """Keeps the snapshots."""
        ...


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of unpacking.

    Attributes:
        blob: the archive.
        diff_id: digest of its uncompressed bytes, as the config promises.
        chain_id: name of the committed snapshot.
        parent: chain id of the layer below; empty for the lowest.
    """

    blob: Descriptor
    diff_id: str
    chain_id: str
    parent: str


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The names of the committed snapshots: the first is the first diff id, each other covers all before it."""
    chain: list[str] = []
    for diff_id in diff_ids:
        text = f"{chain[-1]} {diff_id}" if chain else ""
        chain.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if chain else diff_id)
    return chain


def unpack(
    ctx: CallContext,
    machine: Machine,
    target: Descriptor,
    snapshotter: str,
    *,
    choice: Choice | None = None,
    announce: bool = False,
) -> str:
    """Make an image's snapshots; the top chain id, above which a container's snapshot can be prepared.

    Args:
        target: an image's manifest or index.
        choice: which manifest of an index; by default this machine's best.
        announce: label what is prepared with its chain id, as a pull does (an import does not); a snapshotter that
            has the layer from elsewhere then answers AlreadyExists, and nothing is applied.

    Raises:
        NotFound: a layer or document is not in the store, or no manifest fits.
        InvalidArgument: the config does not fit the manifest.
        FailedPrecondition: a layer is not what the config says; nothing was committed for it.
    """
    with working_lease(ctx, machine.leases) as leased:
        manifest = choose(leased, machine.content, target, choice or Choice.default())
        config, *layers = [entry.descriptor for entry in children(leased, machine.content, manifest)]
        snapshots = machine.snapshotter(snapshotter)
        top = ""
        for layer in _plan(config_of(leased, machine.content, config), layers):
            if not _there(leased, snapshots, layer.chain_id) and _make(
                leased, machine, snapshots, layer, announce=announce
            ):
                _label(leased, machine, layer.blob.digest, UNCOMPRESSED, layer.diff_id)
            top = layer.chain_id
        _label(leased, machine, config.digest, f"{SNAPSHOT}.{snapshotter}", top)
        return top


def _plan(config: dict[str, object], blobs: list[Descriptor]) -> Iterator[Layer]:
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != len(blobs):
        found = len(diff_ids) if isinstance(diff_ids, list) else 0
        raise InvalidArgument(f"config has {found} diff ids for {len(blobs)} layers")
    chain = chain_ids(diff_ids)
    for blob, diff_id, chain_id, parent in zip(blobs, diff_ids, chain, ["", *chain], strict=False):
        yield Layer(blob, diff_id, chain_id, parent)


def _there(ctx: CallContext, snapshots: Snapshotter, chain_id: str) -> bool:
    try:
        snapshots.stat(ctx, chain_id)
    except NotFound:
        return False
    return True


def _make(ctx: CallContext, machine: Machine, snapshots: Snapshotter, layer: Layer, *, announce: bool) -> bool:
    """Make one committed snapshot; False if somebody else did meanwhile."""
    key = f"extract-{uuid.uuid4().hex} {layer.chain_id}"
    labels = {TARGET: layer.chain_id} if announce else None
    try:
        mounts = snapshots.prepare(ctx, key, layer.parent, labels)
    except AlreadyExists:
        return False
    try:
        applied = machine.diff.apply(ctx, layer.blob, mounts)
        if applied.digest != layer.diff_id:
            raise FailedPrecondition(
                f"wrong diff id {applied.digest} of layer {layer.blob.digest}, not {layer.diff_id}"
            )
        snapshots.commit(ctx, layer.chain_id, key, labels)
    except BaseException as error:
        with suppress(ContainerdError):
            snapshots.remove(replace(ctx, deadline=None, cancel=None), key)
        if isinstance(error, AlreadyExists):
            return False
        raise
    return True


def _label(ctx: CallContext, machine: Machine, digest: str, key: str, value: str) -> None:
    machine.content.update(ctx, Info(digest, labels={key: value}), [f"labels.{key}"])
