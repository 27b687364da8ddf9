"""Pruning: remove from a snapshotter what no record stands for, children before their parents.

A walk of the back end gives every snapshot once, in any order; put together by their parents they are trees, which are
taken apart from the leaves down (SNP-096, GC-048).
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from refimpl.contract.context import CallContext
from refimpl.contract.errors import FailedPrecondition
from refimpl.contract.snapshots import Snapshotter

_log = logging.getLogger(__name__)


def prune(ctx: CallContext, name: str, backend: Snapshotter, recorded: Collection[str]) -> None:
    """Remove every snapshot of ``backend`` that is not in ``recorded``.

    One that the back end refuses to give up (a child that we do not know of, a mount) is left for the next time, and
    the others go. Any other failure ends the pass: whoever is broken is asked again later, not for each one (SNP-097).

    Args:
        name: of the snapshotter, for the log.
        recorded: names in the back end that records stand for.

    Raises:
        ContainerdError: the back end failed.
    """
    for key in leaves_first({info.name: info.parent for info in backend.walk(ctx)}):
        if key in recorded:
            continue
        try:
            backend.remove(ctx, key)
        except FailedPrecondition as err:
            _log.warning("failed to remove snapshot", extra={"fields": {"snapshotter": name, "key": key, "error": err}})
        else:
            _log.debug("removed snapshot", extra={"fields": {"snapshotter": name, "key": key}})


def leaves_first(parents: dict[str, str]) -> list[str]:
    """All keys, each one behind those that stand on it.

    Args:
        parents: each key's parent; empty, or not a key itself, for the root of a tree.
    """
    children: dict[str | None, list[str]] = {}
    for key, parent in parents.items():
        children.setdefault(parent if parent and parent in parents else None, []).append(key)
    order = []
    # From the roots up, parents first, then read backwards: chains are longer than Python's stack is deep.
    waiting = list(children.get(None, ()))
    while waiting:
        key = waiting.pop()
        order.append(key)
        waiting.extend(children.get(key, ()))
    order.reverse()
    return order
