"""What a subject is: one implementation under judgement, reached in some way.

A subject hands out the contract's protocols and says which words of ``conformance.needs`` it offers. Nothing in a
check or in the engine asks what kind of subject it is.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conformance.shim import sockets
from refimpl.contract.containers import ContainerStore
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.events import EventExchange
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.introspection import Introspection
from refimpl.contract.leases import LeaseManager
from refimpl.contract.mounts import Mounter
from refimpl.contract.namespaces import NamespaceStore
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.tasks import TaskService
from refimpl.contract.types import Descriptor
from refimpl.contract.version import VersionService


class SubjectError(Exception):
    """The subject cannot be judged; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose code answered.

    Attributes:
        product: what it calls itself.
        version: its version text.
        serves: plugin URI -> where it comes from (``built in``, ``proxy unix:///...``, ``fake``), for the report.
    """

    product: str
    version: str = ""
    serves: dict[str, str] = field(default_factory=dict)


_DATABASE = "io.containerd.metadata.v1.bolt/meta.db"
_SURFACES = ("content", "images", "containers", "namespaces", "leases", "events", "diff", "introspection", "tasks")


class Subject:
    """One implementation under judgement. Subclasses fill in what they have; what stays None is not there.

    Attributes:
        name: as written on the command line.
        capabilities: words of ``conformance.needs`` that hold for this subject besides its surfaces.
        snapshotters: ids to judge, the first is the one for checks where any will do.
        mounter: performs the subject's mounts; None when they cannot be seen from here.
        address: path of its gRPC socket; empty without one.
        root: its root directory, where that can be looked into.
        types: plugin types that it consists of, for a plugin judged alone; None for a whole daemon.
        only_clauses, only_areas: what alone it is judged by; None for everything.
        never: surfaces that nothing of its kind has: a check that asks for one is none for it, and no skip.
        ephemeral: whether it is closed after every check that used it.
        one_failure_settles: whether nobody wants to know more of it once a check has failed.
    """

    address: str = ""
    ephemeral = False
    one_failure_settles = False
    only_clauses: frozenset[str] | None = None
    only_areas: frozenset[str] | None = None
    never: frozenset[str] = frozenset()

    def __init__(self, name: str) -> None:
        self.name = name
        self.capabilities: frozenset[str] = frozenset()
        self.content: ContentStore | None = None
        self.images: ImageStore | None = None
        self.containers: ContainerStore | None = None
        self.namespaces: NamespaceStore | None = None
        self.leases: LeaseManager | None = None
        self.events: EventExchange | None = None
        self.diff: Differ | None = None
        self.introspection: Introspection | None = None
        self.tasks: TaskService | None = None
        self.version: VersionService | None = None
        self.snapshotters: Sequence[str] = ()
        self.mounter: Mounter | None = None
        self.root: Path | None = None
        self.types: frozenset[str] | None = None

    def open(self) -> None:
        """Make the subject ready to be judged.

        Raises:
            SubjectError: it cannot be reached or started, in bounded time.
        """

    def close(self) -> None:
        """End everything that ``open`` began. Idempotent, also after a failed ``open``."""

    def identity(self) -> Identity:
        """Whose code answers; asked after ``open``."""
        return Identity(self.name)

    def alive(self) -> str:
        """Why the subject no longer answers; empty while it does. Asked after a check saw it unavailable."""
        return ""

    def snapshotter(self, id: str) -> Snapshotter:
        """The snapshotter of that id (unknown ids too: the subject's own answer is what a check wants to see)."""
        raise SubjectError(f"{self.name} has no snapshotter {id}")

    def plugin(self, type: str, id: str) -> object:
        """The instance of a plugin in this process, for the word ``in-process``."""
        raise SubjectError(f"{self.name} is not in this process")

    def spawn(self, config: str = "") -> AbstractContextManager[OwnInstance]:
        """A second instance of this implementation that a check may configure, stop and kill.

        Args:
            config: TOML (version 2) merged into the instance's configuration.

        Raises:
            SubjectError: not offered (then neither ``config`` nor ``restart`` is among the capabilities).
        """
        raise SubjectError(f"{self.name} cannot be started by the run")

    @property
    def offers(self) -> frozenset[str]:
        """All words of ``conformance.needs`` that hold."""
        words = set(self.capabilities) | {name for name in _SURFACES if getattr(self, name) is not None}
        if self.snapshotters:
            words.add("snapshotter")
            words.update({"overlayfs"} & set(self.snapshotters))
        if self.mounter is not None:
            words.add("mount")
        if self.tasks is not None:
            # The word of the clauses for "runs containers", whatever runs them.
            words.add("runc")
        if self.root is not None and (self.root / _DATABASE).is_file():
            words.add("bolt")
        if self.has_socket:
            words.add("wire")
            if self.types is None and shutil.which("ctr") is not None:
                words.add("ctr")
        if self.images is not None and self.content is not None:
            words.add("gc")
        return frozenset(words)

    @property
    def has_socket(self) -> bool:
        """Whether ``address`` names a gRPC socket; a subject that makes one on demand says so here."""
        return bool(self.address)

    def expect_shim(self, namespace: str, id: str) -> None:
        """Remember that a shim may have been started for a container or group: its socket goes with the subject."""
        if "shim" in self.capabilities:
            sockets.expect(self.address, namespace, id)

    def collect(self, ctx: CallContext) -> None:
        """Force a garbage collection: a throw-away image record removed with sync, the one portable way."""
        assert self.images is not None, "asked for only where `gc` is offered"
        image = Image(
            f"conformance.invalid/collect/{uuid.uuid4().hex}",
            # The target need not exist: a record is enough, and its removal is what triggers the collector.
            Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + uuid.uuid4().hex * 2, 1),
        )
        self.images.create(ctx, image)
        self.images.delete(ctx, image.name, sync=True)


class OwnInstance(Subject):
    """An instance that belongs to one check."""

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) the instance and start it again on the same root; the protocols are new objects afterwards."""
        raise SubjectError(f"{self.name} cannot be restarted")

    def log(self) -> str:
        """All that the instance has logged so far."""
        return ""


@contextmanager
def opened(subject: Subject) -> Iterator[Subject]:
    """The subject, open for the length of the block."""
    try:
        subject.open()
        yield subject
    finally:
        subject.close()
