"""Tasks of an earlier daemon: found again by their bundles, or cleaned up. Clauses SHM-082 to SHM-087, TSK-088."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from refimpl.backends.real.runtime.bundle import Bundle, BundlePlaces
from refimpl.backends.real.runtime.manager import ShimRuntime
from refimpl.backends.real.runtime.shim import BINARY, remove_bundle
from refimpl.contract.errors import ContainerdError, NotFound

log = logging.getLogger("refimpl.runtime")

_AT_ONCE = 16
"""Shims that are asked at the same time: each one that hangs costs its whole time (SHM-085)."""

RuntimeOf = Callable[[str, str], str]
"""The runtime's name in the record of a container, by namespace and id; raises ``NotFound`` without a record."""


def load(runtime: ShimRuntime, runtime_of: RuntimeOf) -> None:
    """List the tasks whose shims answer; clean up the others, and what was left half-way."""
    bundles = [
        runtime.places.bundle(namespace.name, entry.name)
        for namespace in directories(runtime.places.state)
        for entry in directories(namespace)
    ]
    if bundles:
        # Costs the start ten milliseconds, and there is mostly nothing to load.
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="refimpl-load") as pool:
            for done in [pool.submit(_load, runtime, bundle, runtime_of) for bundle in bundles]:
                done.result()
    remove_stale_work(runtime.places)


def _load(runtime: ShimRuntime, bundle: Bundle, runtime_of: RuntimeOf) -> None:
    fields = {"id": bundle.id, "namespace": bundle.namespace}
    binary = _binary(runtime, bundle, runtime_of) if any(bundle.path.iterdir()) else ""
    if not binary:
        remove_bundle(bundle)
        return
    shim = runtime.shim(binary, bundle)
    try:
        pid = shim.reload()
    except NotFound:
        log.warning("a shim without its task was ended", extra={"fields": fields})
    except (ContainerdError, OSError) as error:
        log.error("failed to load shim", extra={"fields": {**fields, "error": error}})
        shim.clean_up_at_start()
    else:
        runtime.add(shim, pid)


def _binary(runtime: ShimRuntime, bundle: Bundle, runtime_of: RuntimeOf) -> str:
    """The bundle's shim; empty if nobody knows."""
    name = bundle.read(BINARY)
    try:
        return runtime.binaries.resolve(name or runtime_of(bundle.namespace, bundle.id))
    except ContainerdError as error:
        fields = {"id": bundle.id, "namespace": bundle.namespace, "error": error}
        log.error("failed to resolve the shim of a bundle", extra={"fields": fields})
        return ""


def remove_stale_work(places: BundlePlaces) -> None:
    """Remove work directories without a task; the state may be gone where the root is not, after a reboot."""
    for namespace in directories(places.root):
        for work in directories(namespace):
            if not places.bundle(namespace.name, work.name).path.exists():
                log.warning("cleaning up leaked work directory", extra={"fields": {"path": work}})
                shutil.rmtree(work, ignore_errors=True)


def directories(parent: Path) -> Iterator[Path]:
    """Directories in a directory, in order; hidden ones are left out, and are left alone."""
    try:
        names = sorted(os.listdir(parent))
    except FileNotFoundError:
        return
    for name in names:
        path = parent / name
        if not name.startswith(".") and path.is_dir() and not path.is_symlink():
            yield path
