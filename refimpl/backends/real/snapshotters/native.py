"""Layers that are full copies: works on any file system, costs what it copies.

An entry of ROOT/snapshots is the snapshot's tree itself. Clauses SNX-030 to SNX-036.
Twin: refimpl.backends.fake.snapshotters.directories.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from refimpl.backends.real.snapshotters.directories import Directories
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unimplemented
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Kind, Usage
from refimpl.linux.copying import copy_tree
from refimpl.snapshots.layered import Prefixes
from refimpl.snapshots.record import Record, Snapshot


class NativeLayers(Directories):
    """The storage of native."""

    prefixes = Prefixes(mounts="failed to get snapshot mount")

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """Copy the parent; a view of one shows it in place (SNX-032, SNX-033)."""
        if snapshot.kind is Kind.VIEW and snapshot.parents:
            return
        with self._making(snapshot.id) as made:
            os.chmod(made, 0o755)  # noqa: S103  # as fresh roots are (SNX-030)
            if snapshot.parents:
                copy_tree(self._path(snapshot.parents[0]), made, ctx.check)

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """Always one bind, options the other way round than overlayfs's (SNX-031)."""
        if snapshot.kind is Kind.VIEW:
            source = snapshot.parents[0] if snapshot.parents else snapshot.id
            return [Mount("bind", self._path(source), options=("rbind", "ro"))]
        return [Mount("bind", self._path(snapshot.id), options=("rbind", "rw"))]

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        """The whole copy (SNX-034)."""
        return self._usage(ctx, self._path(snapshot.id))

    def remove(self, record: Record) -> Sequence[str]:
        """The copy goes at once (SNX-035).

        Renamed first by containerd, so that what a crash leaves of it is told from a snapshot; a number is never given
        out twice, so there is no need.
        """
        return [str(record.id)]

    def strays(self, live: frozenset[int]) -> Sequence[str]:
        """Refuse: what was removed is gone already, and what a crash left is nobody's to judge (SNX-035)."""
        raise Unimplemented
