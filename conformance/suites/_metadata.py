"""Words for the checks of the metadata database: its file, other files in its place, and records of every kind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from conformance import patience
from conformance.recorder import Recorder
from conformance.subjects.base import Subject
from conformance.suites._bolt import Bucket, Damaged, current, read, write
from conformance.wire import Wire
from refimpl.api import containers_v1_pb2, content_v1_pb2, namespaces_v1_pb2, snapshots_v1_pb2
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import decode_varint, encode_varint
from refimpl.contract.errors import ContainerdError
from refimpl.contract.images import Image
from refimpl.contract.types import Descriptor, TypedAny

PLUGIN = "io.containerd.metadata.v1.bolt"
TYPE = "io.containerd.metadata.v1"
SPEC = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b'{"ociVersion":"1.0.2"}')
RUNC = RuntimeInfo("io.containerd.runc.v2")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

ON_DISK = frozenset({"disk", "bolt"})
"""What a check needs to look into the file."""

REPLACED = ON_DISK | {"config", "restart"}
"""The same to put another one in its place."""

QUIET = '[plugins."io.containerd.gc.v1.scheduler"]\nstartup_delay = "0s"\n'
"""A configuration without the collection that follows a start."""

UNKNOWN = 2
"""The gRPC code of an error that fits no other."""

UNSERVED = {"UNIMPLEMENTED"}
"""The codes of calls to services that are not there."""

PATIENCE = patience.SECONDS
"""Seconds that a check waits for what has to come."""

ME = CallContext(namespace="t")
"""Who calls an instance that belongs to one check."""

UNLIMITED = 1 << 62


def container(id: str, **fields: Any) -> Container:
    """A record with what every container needs."""
    return Container(**{"id": id, "runtime": RUNC, "spec": SPEC, **fields})


def image(name: str, digest: str, size: int = 24, **fields: Any) -> Image:
    """A record."""
    annotations = fields.pop("annotations", {})
    return Image(name, Descriptor(MANIFEST, digest, size, annotations=annotations), **fields)


def ids(subject: Subject, ctx: CallContext = ME) -> list[str]:
    """The containers of a namespace."""
    assert subject.containers is not None, "there are no containers without the database"
    return [found.id for found in subject.containers.list(ctx)]


def sharing(policy: str) -> str:
    """A configuration with such a policy for content that several namespaces have."""
    return f'[plugins."{PLUGIN}"]\ncontent_sharing_policy = "{policy}"\n'


# ------------------------------------------------------------------------------------------------------------ the file


def folder(subject: Subject) -> Path:
    """The directory of the database."""
    assert subject.root is not None, "collected only where `disk` is offered"
    return subject.root / PLUGIN


def database(subject: Subject) -> Path:
    """The file."""
    return folder(subject) / "meta.db"


def records(subject: Subject) -> Bucket:
    """All that the file holds now. The daemon may have it open: two equal readings are one that nobody disturbed."""
    return settled(database(subject))


def settled(file: Path) -> Bucket:
    """The content of a file that somebody else has open."""
    deadline = time.monotonic() + PATIENCE
    before: Bucket | None = None
    while True:
        found: Bucket | None = None
        with suppress(Damaged):
            found = read(file)
        if found is not None and found == before:
            return found
        assert time.monotonic() < deadline, f"{file} changes all the time, or cannot be read"
        before = found


def txid(subject: Subject) -> int:
    """The number of the last commit."""
    return current(database(subject).read_bytes()).txid


def number(value: bytes) -> int:
    """A number as the database keeps them: a zigzag varint."""
    return decode_varint(value)


def version(value: int) -> bytes:
    """The same to be written."""
    return encode_varint(value)


def put(subject: Subject, content: Bucket | bytes, **options: Any) -> Path:
    """Put another file into the place of the database; the daemon keeps the old one until it is restarted."""
    beside = folder(subject) / "replacement"
    if isinstance(content, Bucket):
        write(beside, content, **options)
    else:
        beside.write_bytes(content)
    beside.chmod(0o644)
    return beside.replace(database(subject))


def started_on(own: Callable[..., Any], content: Bucket | bytes, config: str = QUIET, **options: Any) -> Any:
    """An instance of the check's own that was started on such a database."""
    instance = own(config=config)
    put(instance, content, **options)
    instance.restart()
    return instance


def tree(namespaces: Mapping[str, Bucket] | None = None, *, at: int | bytes | None = 3) -> Bucket:
    """A whole database.

    Args:
        at: its version, or the bytes in the place of one; None for none.
    """
    v1 = Bucket()
    v1.update((name.encode(), found) for name, found in (namespaces or {}).items())
    if at is not None:
        v1[b"version"] = at if isinstance(at, bytes) else version(at)
    return Bucket({"v1": v1})


def filled(own: Callable[..., Any], *names: str) -> Any:
    """An instance of the check's own with some containers, and without collections, which would commit something."""
    instance = own(config=QUIET)
    for name in names:
        instance.containers.create(ME, container(name))
    return instance


def own_version(subject: Subject) -> int:
    """The schema that an implementation writes."""
    return number(records(subject).value("v1", "version"))


@contextmanager
def locked(file: Path, how: int) -> Iterator[None]:
    """Holds a lock of flock(2).

    Raises:
        BlockingIOError: somebody else holds one that excludes it.
    """
    fd = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def is_locked(file: Path, how: int = fcntl.LOCK_EX) -> bool:
    """Whether such a lock cannot be had."""
    try:
        with locked(file, how):
            return False
    except BlockingIOError:
        return True


# ------------------------------------------------------------------------------------------------------- plugins, calls


def told(subject: Subject) -> Any:
    """What the daemon tells of the plugin."""
    assert subject.introspection is not None, "every subject has it"
    (found,) = subject.introspection.plugins(CallContext(), [f"type=={TYPE}"])
    return found


def kind(call: Callable[[], object]) -> type[ContainerdError] | None:
    """The kind of error by which a call is refused; None if it is not."""
    try:
        call()
    except ContainerdError as error:
        return type(error)
    return None


def kinds(calls: Sequence[Callable[[], object]]) -> list[type[ContainerdError] | None]:
    """The same of several calls, one after the other."""
    return [kind(call) for call in calls]


def unserved(subject: Subject) -> set[str]:
    """What calls of four services that need the database come to, as codes."""
    wire, services = Wire(subject.address, Recorder()), "containerd.services"
    calls: dict[str, Message] = {
        f"{services}.containers.v1.Containers/List": containers_v1_pb2.ListContainersRequest(),
        f"{services}.namespaces.v1.Namespaces/List": namespaces_v1_pb2.ListNamespacesRequest(),
        f"{services}.content.v1.Content/Info": content_v1_pb2.InfoRequest(digest="sha256:" + "0" * 64),
        f"{services}.snapshots.v1.Snapshots/Stat": snapshots_v1_pb2.StatSnapshotRequest(snapshotter="native", key="k"),
    }
    try:
        return {wire.call(method, request, namespace="t").code for method, request in calls.items()}
    finally:
        wire.close()
