"""Seeding: an image, a container, a running task, each made as a client makes them, in one line.

The calls behind it are neither logged nor struck by faults.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refimpl.api.typeurl import OCI_SPEC
from refimpl.client import Client
from refimpl.client.archive import import_archive
from refimpl.client.manifests import children, choose, config_of
from refimpl.client.platforms import Choice
from refimpl.client.unpack import chain_ids, unpack
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound
from refimpl.contract.images import Image
from refimpl.contract.tasks import CreateTask
from refimpl.contract.types import TypedAny
from refimpl.testing import images

IMAGE = "registry.test/seed:1"
"""The image of a container for which none is named."""

COMMAND = ("sleep", "infinity")
"""What a container runs for which nothing is named: it ends when it is told to."""

SNAPSHOTTER = "overlayfs"
RUNTIME = "io.containerd.runc.v2"

_ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


@dataclass(frozen=True, slots=True)
class SeededTask:
    """A running task.

    Attributes:
        pid: of its init, in the fake world.
    """

    container: Container
    pid: int


class Seed:
    """Makes what a test needs to be there.

    Args:
        ctx: under which it calls; the namespace is the one that things are made in.
    """

    def __init__(self, client: Client, ctx: CallContext) -> None:
        self._client, self._ctx = client, ctx

    def image(
        self,
        name: str = IMAGE,
        *,
        files: Mapping[str, bytes] | None = None,
        env: Sequence[str] = _ENV,
        command: Sequence[str] = COMMAND,
        labels: Mapping[str, str] | None = None,
        snapshotter: str = SNAPSHOTTER,
    ) -> Image:
        """An image of one layer, imported, and unpacked into ``snapshotter`` unless that is empty.

        Args:
            files: content by path, beside the small programs in ``/bin`` that a fake task can run.
            env, command, labels: for the image's config.

        Returns:
            Its record.
        """
        archive = images.archive(name, files=files or {}, env=env, command=command, labels=labels or {})
        [image] = import_archive(self._ctx, self._client, io.BytesIO(archive))
        if snapshotter:
            unpack(self._ctx, self._client, image.target, snapshotter)
        return image

    def container(
        self,
        id: str,
        *,
        image: str = IMAGE,
        args: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        runtime: str = RUNTIME,
        snapshotter: str = SNAPSHOTTER,
        spec: Mapping[str, Any] | None = None,
    ) -> Container:
        """A container with a snapshot of its own, called like it, above its image.

        Args:
            image: name; an image that is not there is seeded.
            args: the command; empty for the image's own.
            spec: members of the OCI spec that replace those made here (``process``, ``linux``, ...).

        Raises:
            AlreadyExists: a container or a snapshot of that id is there.
        """
        client, ctx = self._client, self._ctx
        try:
            target = client.images.get(ctx, image).target
        except NotFound:
            target = self.image(image, snapshotter=snapshotter).target
        config = self._config(target)
        top = chain_ids(config["rootfs"]["diff_ids"])[-1]
        client.snapshotter(snapshotter).prepare(ctx, id, parent=top)
        made = _spec(id, config.get("config", {}), args) | dict(spec or {})
        wish = Container(
            id,
            labels=labels or {},
            image=image,
            runtime=RuntimeInfo(runtime),
            spec=TypedAny(OCI_SPEC, json.dumps(made).encode()),
            snapshotter=snapshotter,
            snapshot_key=id,
        )
        return client.containers.create(ctx, wish)

    def task(self, id: str, **container: Any) -> SeededTask:
        """A running task, without standard streams.

        Args:
            id: of its container, which is seeded with the other arguments (those of ``container``) if it is not there.

        Raises:
            AlreadyExists: the container has a task.
            TypeError: arguments for a container that is there.
        """
        client, ctx = self._client, self._ctx
        try:
            found = client.containers.get(ctx, id)
        except NotFound:
            found = self.container(id, **container)
        else:
            if container:
                raise TypeError(f"container {id} is there already; it cannot get {', '.join(container)}")
        rootfs = client.snapshotter(found.snapshotter).mounts(ctx, found.snapshot_key) if found.snapshot_key else ()
        client.tasks.create(ctx, CreateTask(id, rootfs=rootfs))
        return SeededTask(found, client.tasks.start(ctx, id))

    def _config(self, target: Any) -> dict[str, Any]:
        manifest = choose(self._ctx, self._client.content, target, Choice.default())
        config = children(self._ctx, self._client.content, manifest)[0].descriptor
        return config_of(self._ctx, self._client.content, config)


def _spec(id: str, config: Mapping[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """An OCI spec as small as a runtime takes it."""
    command = list(args) or [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": command,
            "env": list(config.get("Env") or _ENV),
            "cwd": config.get("WorkingDir") or "/",
            "user": {"uid": 0, "gid": 0},
        },
        "root": {"path": "rootfs"},
        "hostname": id,
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }
