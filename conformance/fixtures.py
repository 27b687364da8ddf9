"""Fixtures: what a check can ask for.

=================  ====================================================================================================
``subject``        the implementation under judgement; rarely needed by itself
``ctx``            a call context in a namespace of the check's own, under a lease of its own
``unleased``       the same without the lease: what is made through it may be collected at any moment
``new_namespace``  makes further such contexts (``new_namespace(lease=False)``)
``content`` ...    the protocols: ``content images containers namespaces leases events diff introspection tasks``
``snapshotter``    one snapshotter; the check runs once for each that the subject judges. ``snapshotters(id)`` gives any
``mounted``        ``with mounted(mounts) as fs:`` performs mounts and gives a ``RootFS``
``collect``        ``collect(ctx)`` forces a garbage collection and waits for it
``wire``           raw gRPC calls (``conformance.wire``); only where the clause is about messages
``own``            ``own(config="...")`` starts a further instance that the check may configure, restart and kill
``unique``         ``unique("name")`` makes a name that no other check or run uses
``blob``           ``blob(b"...")`` stores bytes in ``ctx`` and answers with their digest
=================  ====================================================================================================
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import pytest

from conformance import runc_state
from conformance.cleanup import purge
from conformance.recorder import Recorder
from conformance.subjects.base import OwnInstance, Subject
from conformance.wire import Wire
from refimpl.contract.containers import ContainerStore
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.events import EventExchange
from refimpl.contract.images import ImageStore
from refimpl.contract.introspection import Introspection
from refimpl.contract.leases import LeaseManager
from refimpl.contract.mounts import Mount, RootFS
from refimpl.contract.namespaces import NamespaceStore
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.tasks import TaskService

Collect = Callable[[CallContext], None]
Unique = Callable[[str], str]
Own = Callable[..., OwnInstance]
Mounted = Callable[..., AbstractContextManager[RootFS]]


class NewNamespace(Protocol):
    """Makes a context in a fresh namespace, cleaned up after the check."""

    def __call__(self, *, lease: bool = True) -> CallContext:
        """Make one, under a lease of its own unless told otherwise."""
        ...


class Blob(Protocol):
    """Stores bytes and answers with their digest."""

    def __call__(self, data: bytes, *, labels: Mapping[str, str] | None = None, ctx: CallContext | None = None) -> str:
        """Store ``data``; without ``ctx`` in the check's own namespace."""
        ...


@pytest.fixture
def recorder(request: pytest.FixtureRequest) -> Recorder:
    """The calls of this check."""
    found: Recorder = request.node.stash.setdefault(RECORDER, Recorder())
    return found


RECORDER = pytest.StashKey[Recorder]()


@pytest.fixture
def unique() -> Unique:
    """Makes names of its own: ``unique("image")`` -> ``image-3f2a9c81d0e4``."""
    return lambda stem: f"{stem}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def new_namespace(subject: Subject, request: pytest.FixtureRequest) -> Iterator[NewNamespace]:
    """Makes contexts in namespaces of their own; all of them are emptied and removed afterwards."""
    made: list[CallContext] = []

    def make(*, lease: bool = True) -> CallContext:
        ctx = CallContext(namespace=f"{runc_state.PREFIX}{uuid.uuid4().hex[:16]}")
        made.append(ctx)
        if lease and subject.leases is not None:
            # The collector may run at any moment: what a check makes must hang on something.
            ctx = ctx.with_lease(subject.leases.create(ctx, f"lease-{uuid.uuid4().hex[:8]}").id)
        return ctx

    yield make
    left = [text for ctx in made for text in purge(subject, ctx)]
    if left:
        request.node.user_properties.append(("conformance-left", left))


@pytest.fixture
def ctx(new_namespace: NewNamespace) -> CallContext:
    """The check's own namespace, under a lease of its own."""
    return new_namespace()


@pytest.fixture
def unleased(ctx: CallContext) -> CallContext:
    """``ctx`` without its lease."""
    return ctx.with_lease("")


def _surface(name: str) -> Any:
    @pytest.fixture(name=name)
    def surface(subject: Subject, recorder: Recorder) -> Any:
        return recorder.watch(name, getattr(subject, name))

    return surface


content: ContentStore = _surface("content")
images: ImageStore = _surface("images")
containers: ContainerStore = _surface("containers")
namespaces: NamespaceStore = _surface("namespaces")
leases: LeaseManager = _surface("leases")
events: EventExchange = _surface("events")
diff: Differ = _surface("diff")
introspection: Introspection = _surface("introspection")
tasks: TaskService = _surface("tasks")


@pytest.fixture
def snapshotter(subject: Subject, recorder: Recorder, snapshotter_id: str) -> Snapshotter:
    """The snapshotter under judgement; the check runs once for each."""
    return recorder.watch(f"snapshotter({snapshotter_id})", subject.snapshotter(snapshotter_id))


@pytest.fixture
def snapshotters(subject: Subject, recorder: Recorder) -> Callable[[str], Snapshotter]:
    """Any snapshotter by id, unknown ones too."""
    return lambda id: recorder.watch(f"snapshotter({id})", subject.snapshotter(id))


@pytest.fixture
def mounted(subject: Subject, ctx: CallContext) -> Mounted:
    """Performs mounts: ``with mounted(mounts) as fs:``."""
    mounter = subject.mounter
    assert mounter is not None, "collected only where `mount` is offered"

    def perform(mounts: Sequence[Mount], *, read_only: bool = False) -> AbstractContextManager[RootFS]:
        return mounter.mounted(ctx, mounts, read_only=read_only)

    return perform


@pytest.fixture
def collect(subject: Subject) -> Collect:
    """Forces a garbage collection in the namespace of the given context and waits for its end."""
    return subject.collect


@pytest.fixture
def wire(subject: Subject, recorder: Recorder) -> Iterator[Wire]:
    """Raw gRPC calls to the subject."""
    channel = Wire(subject.address, recorder)
    yield channel
    channel.close()


@pytest.fixture
def own(subject: Subject) -> Iterator[Own]:
    """Starts instances of the check's own: ``own(config="...")``; all are ended afterwards."""
    with ExitStack() as stack:
        yield lambda config="": stack.enter_context(subject.spawn(config))


@pytest.fixture
def blob(content: ContentStore, ctx: CallContext) -> Blob:
    """Stores bytes: ``blob(b"...", labels={...})`` -> digest. Uses the check's context unless another is given."""
    mine = ctx

    def store(data: bytes, *, labels: Mapping[str, str] | None = None, ctx: CallContext | None = None) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        where = ctx or mine
        writer = content.writer(where, f"blob-{uuid.uuid4().hex}", total=len(data))
        try:
            writer.write(data)
            writer.commit(where, len(data), digest, labels)
        finally:
            writer.close()
        return digest

    return store
