"""Containers from images: making one with a snapshot of its own, stopping its task, removing all of it.

What ``ctr run``, ``ctr tasks`` and ``ctr containers rm`` do, over the API alone; nothing is mounted on this side.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from refimpl.api.typeurl import OCI_SPEC
from refimpl.client import references
from refimpl.client.leases import working_lease
from refimpl.client.manifests import children, choose, config_of
from refimpl.client.platforms import Choice
from refimpl.client.spec import Wishes, spec_of
from refimpl.client.unpack import Machine, unpack
from refimpl.client.users import find
from refimpl.contract.containers import Container, ContainerStore, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from refimpl.contract.images import Image
from refimpl.contract.runtimes import IO, Exit, Status
from refimpl.contract.tasks import CreateTask, TaskService
from refimpl.contract.types import Descriptor, TypedAny

STOP_SIGNAL = "io.containerd.image.config.stop-signal"
"""Label of a container: the signal by which its image wants to be asked to end."""

LONGEST_LABEL = 4096
"""Bytes of a label's key and value together."""

KILLED_SECONDS = 10.0
"""How long a killed task may take to be gone."""


class Host(Machine, Protocol):
    """Where containers run: a ``Client``, or any object with these parts."""

    @property
    def containers(self) -> ContainerStore:
        """Keeps the records."""
        ...

    @property
    def tasks(self) -> TaskService:
        """Runs them."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """What an image's documents say.

    Attributes:
        config: the part of its config that is for containers.
        layers: the lowest first.
    """

    config: dict[str, Any]
    layers: list[Descriptor]


def image_of(ctx: CallContext, host: Host, name: str) -> Image:
    """An image by its name, or by the short form of it.

    Raises:
        NotFound: neither is there.
    """
    with suppress(NotFound):
        return host.images.get(ctx, name)
    try:
        return host.images.get(ctx, references.normalized(name))
    except (NotFound, InvalidArgument):
        raise NotFound(f'image "{name}"') from None


def content_of(ctx: CallContext, host: Host, target: Descriptor) -> Content:
    """What the documents of this machine's manifest say."""
    manifest = choose(ctx, host.content, target, Choice.default())
    config, *layers = [entry.descriptor for entry in children(ctx, host.content, manifest)]
    return Content(config_of(ctx, host.content, config).get("config") or {}, layers)


def create(
    ctx: CallContext,
    host: Host,
    id: str,
    image: str,
    wishes: Wishes,
    *,
    user: str = "",
    snapshotter: str,
    runtime: str,
) -> Container:
    """Make a container: a snapshot above the image's, unpacked before if need be, and the record.

    Args:
        user: as ``users.find``; empty for the one that the image's config names.

    Raises:
        NotFound: no such image, or not all of it.
        AlreadyExists: a container or a snapshot of that id is there; it is as it was.
        InvalidArgument: nothing to run, or an id that cannot be.
    """
    with working_lease(ctx, host.leases) as leased:
        found = image_of(leased, host, image)
        content = content_of(leased, host, found.target)
        config = content.config
        who = find(leased, host.content, content.layers, user or str(config.get("User") or ""))
        spec = spec_of(ctx.namespace, id, config, who, wishes)
        labels = {**_labels(config), **wishes.labels}
        top = unpack(leased, host, found.target, snapshotter)
        snapshots = host.snapshotter(snapshotter)
        snapshots.prepare(leased, id, top)
        try:
            return host.containers.create(
                leased,
                Container(
                    id,
                    labels=labels,
                    image=found.name,
                    runtime=RuntimeInfo(runtime),
                    spec=TypedAny(OCI_SPEC, json.dumps(spec).encode()),
                    snapshotter=snapshotter,
                    snapshot_key=id,
                ),
            )
        except BaseException:
            with suppress(ContainerdError):
                snapshots.remove(replace(ctx, deadline=None, cancel=None), id)
            raise


def _labels(config: Mapping[str, Any]) -> dict[str, str]:
    """What the record of a container keeps of its image's config; a label that no record can hold stays behind."""
    of_image = {str(key): str(value) for key, value in (config.get("Labels") or {}).items()}
    kept = {key: value for key, value in of_image.items() if len(f"{key}{value}".encode()) <= LONGEST_LABEL}
    return {**kept, STOP_SIGNAL: config.get("StopSignal") or "SIGTERM"}


def create_task(ctx: CallContext, host: Host, container: Container, io: IO) -> int:
    """Make the task of a container, not yet started; answers with the pid of init."""
    rootfs = host.snapshotter(container.snapshotter).mounts(ctx, container.snapshot_key)
    return host.tasks.create(ctx, CreateTask(container.id, rootfs=rootfs, io=io))


def stop(ctx: CallContext, host: Host, id: str, *, seconds: float, how: int = 0) -> Exit:
    """Ask a task to end, kill it after ``seconds``, and forget it.

    Args:
        how: the signal to ask with; 0 for the one that the container's image wants.

    Raises:
        NotFound: no such container, or it has no task.
        DeadlineExceeded: even killed it did not end.
    """
    container = host.containers.get(ctx, id)
    state = host.tasks.get(ctx, id).status
    asked = how or signal_of(container.labels.get(STOP_SIGNAL, "SIGTERM"))
    if state is Status.PAUSED:
        # The frozen hear nothing.
        host.tasks.resume(ctx, id)
    if state is Status.CREATED:
        asked = signal.SIGKILL
    if state is not Status.STOPPED:
        with suppress(NotFound):
            host.tasks.kill(ctx, id, signal=asked)
        try:
            host.tasks.wait(replace(ctx, deadline=time.monotonic() + seconds), id)
        except ContainerdError as error:
            if not timed_out(error):
                raise
            kill(ctx, host, id)
    return host.tasks.delete(ctx, id)


def kill(ctx: CallContext, host: Host, id: str) -> None:
    """Kill all of a task and wait for its end; one that has ended, or is gone, is as good."""
    with suppress(NotFound):
        host.tasks.kill(ctx, id, signal=signal.SIGKILL, all=True)
    # Also one that had ended already: its shim may not have noticed yet, and deletes nothing that runs.
    with suppress(NotFound):
        host.tasks.wait(replace(ctx, deadline=time.monotonic() + KILLED_SECONDS), id)


def remove(ctx: CallContext, host: Host, id: str, *, force: bool = False) -> None:
    """Remove a container with its task, if that has ended, and its snapshot.

    Args:
        force: kill the task before.

    Raises:
        NotFound: no such container.
        FailedPrecondition: its task runs.
    """
    container = host.containers.get(ctx, id)
    try:
        state = host.tasks.get(ctx, id).status
    except NotFound:
        state = None
    if state is not None:
        if force:
            if state is Status.PAUSED:
                host.tasks.resume(ctx, id)
            kill(ctx, host, id)
        elif state not in {Status.STOPPED, Status.CREATED}:
            raise FailedPrecondition(f"container {id} is {state.name.lower()}: stop it first, or use --force")
        with suppress(NotFound):
            host.tasks.delete(ctx, id)
    host.containers.delete(ctx, id)
    if container.snapshot_key:
        with suppress(NotFound):
            host.snapshotter(container.snapshotter).remove(ctx, container.snapshot_key)


def timed_out(error: ContainerdError) -> bool:
    """Whether a call ended because of its deadline.

    A wait that hands its deadline down to a shim ends there first, and comes back as an error of no known kind.
    """
    return isinstance(error, DeadlineExceeded) or DeadlineExceeded.text in str(error)


def signal_of(text: str) -> int:
    """A signal by its name, with ``SIG`` or without, or by its number.

    Raises:
        InvalidArgument: there is none.
    """
    name = text.upper()
    number = int(name) if name.isdecimal() else getattr(signal, name if name.startswith("SIG") else f"SIG{name}", 0)
    if not 0 < int(number) < signal.NSIG:
        raise InvalidArgument(f'signal "{text}"')
    return int(number)
