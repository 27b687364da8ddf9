"""Words for the checks of images: records, archives made on the spot, and the client that carries them in and out.

Every archive holds random bytes, so its digests are nobody else's and every check has its blobs to itself.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from conformance import patience
from conformance.mutants.engine import change
from conformance.recorder import Recorder
from conformance.subjects.base import Subject
from conformance.suites._content import digest_of, fresh
from refimpl.client.archive import import_archive
from refimpl.client.export import export_archive
from refimpl.client.manifests import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, children, choose
from refimpl.client.platforms import Choice, host, parse
from refimpl.client.unpack import unpack
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.errors import NotFound
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.leases import LeaseManager
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.types import Descriptor, Platform

LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"

GC_CONTENT = "containerd.io/gc.ref.content"
GC_SNAPSHOT = "containerd.io/gc.ref.snapshot"
UNCOMPRESSED = "containerd.io/uncompressed"

NAME = "io.containerd.image.name"
REF = "org.opencontainers.image.ref.name"

OTHERS = [Platform("linux", "s390x"), Platform("linux", "ppc64le")]
"""Platforms on which nobody runs this suite together; ``other_platforms`` leaves out the one that is this machine's."""


def target(**fields: Any) -> Descriptor:
    """What an image may point at: a manifest that no content store has."""
    return replace(Descriptor(OCI_MANIFEST, digest_of(fresh()), 10), **fields)


def names(images: ImageStore, ctx: CallContext, *filters: str) -> list[str]:
    """The names of the images that ``List`` answers with, in its order."""
    return [image.name for image in images.list(ctx, filters)]


def exists(images: ImageStore, ctx: CallContext, name: str) -> bool:
    """Whether the namespace has an image of that name."""
    try:
        images.get(ctx, name)
    except NotFound:
        return False
    return True


def digests(content: ContentStore, ctx: CallContext) -> set[str]:
    """The digests of all blobs of the namespace."""
    return {info.digest for info in content.walk(ctx)}


def tree(snapshotter: Snapshotter, ctx: CallContext) -> dict[str, str]:
    """Name -> parent of all snapshots of the namespace."""
    return {info.name: info.parent for info in snapshotter.walk(ctx)}


def chained(parent: str, diff_id: str) -> str:
    """The chain id of a layer above ``parent``."""
    return digest_of(f"{parent} {diff_id}".encode())


def other_platforms() -> list[Platform]:
    """Platforms that this machine cannot run."""
    return [one for one in [*OTHERS, Platform("linux", "riscv64")] if one.architecture != host().architecture][:2]


def tarred(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    """A tar archive of files and symlinks, in the order given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, there in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, there
            archive.addfile(member)
    return out.getvalue()


def untarred(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Header and bytes of every member of a tar archive, in its order."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member)
            assert member.name not in found, f"{member.name} stands in the archive twice"
            found[member.name] = (member, file.read() if file is not None else b"")
        return found


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    Attributes:
        blob: as a manifest lists it.
        diff_id: digest of its bytes without compression.
    """

    blob: Descriptor
    diff_id: str


@dataclass(frozen=True, slots=True)
class Made:
    """An image of one platform."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Layer, ...]

    @property
    def blobs(self) -> set[str]:
        """The digests of all its blobs."""
        return {self.manifest.digest, self.config.digest, *(layer.blob.digest for layer in self.layers)}

    @property
    def chain(self) -> list[str]:
        """The chain ids of its layers."""
        chain: list[str] = []
        for layer in self.layers:
            chain.append(chained(chain[-1], layer.diff_id) if chain else layer.diff_id)
        return chain


def listed(blob: Descriptor, platform: Platform | None = None, **annotations: str) -> dict[str, Any]:
    """A descriptor as documents list it; ``name`` and ``ref`` stand for the two annotations that name images."""
    entry: dict[str, Any] = {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
    if platform is not None:
        entry["platform"] = {"os": platform.os, "architecture": platform.architecture}
        if platform.variant:
            entry["platform"]["variant"] = platform.variant
    given = {{"name": NAME, "ref": REF}.get(key, key): value for key, value in annotations.items()}
    return {**entry, "annotations": given} if given else entry


class Archive:
    """An image archive under construction."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.links: dict[str, str] = {}

    def blob(self, data: bytes, media_type: str) -> Descriptor:
        """Add a blob under the path that OCI layouts give it."""
        digest = digest_of(data)
        self.files[self.path(digest)] = data
        return Descriptor(media_type, digest, len(data))

    @staticmethod
    def path(digest: str) -> str:
        """Where a blob lies in an OCI layout."""
        return f"blobs/{digest.replace(':', '/')}"

    def document(self, value: object, media_type: str) -> Descriptor:
        """Add a JSON document."""
        return self.blob(json.dumps(value).encode(), media_type)

    def layer(self, media_type: str = LAYER_GZIP) -> Layer:
        """Add a layer with one file that no other layer has; compressed where the media type says so."""
        data = tarred({f"{fresh(4).hex()}.txt": fresh()})
        return Layer(
            self.blob(gzip.compress(data, mtime=0) if "gzip" in media_type else data, media_type), digest_of(data)
        )

    def image(self, *layers: Layer, platform: Platform | None = None, diff_ids: Sequence[str] | None = None) -> Made:
        """Add an image: by default two layers, for this machine, with the right diff ids."""
        layers = layers or (self.layer(), self.layer())
        config = self.config(platform or host(), [layer.diff_id for layer in layers] if diff_ids is None else diff_ids)
        blob = self.document(config, OCI_CONFIG)
        return Made(self.manifest(blob, *(layer.blob for layer in layers)), blob, layers)

    @staticmethod
    def config(platform: Platform, diff_ids: Sequence[str]) -> dict[str, Any]:
        """A config document."""
        found: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
        if platform.variant:
            found["variant"] = platform.variant
        return {**found, "config": {}, "rootfs": {"type": "layers", "diff_ids": list(diff_ids)}}

    def manifest(self, config: Descriptor, *layers: Descriptor, media_type: str = OCI_MANIFEST) -> Descriptor:
        """Add a manifest."""
        value = {"schemaVersion": 2, "config": listed(config), "layers": [listed(layer) for layer in layers]}
        return self.document(value, media_type)

    def index(self, *entries: Mapping[str, Any]) -> Descriptor:
        """Add an index."""
        return self.document({"schemaVersion": 2, "manifests": entries}, OCI_INDEX)

    def layout(self, *entries: Mapping[str, Any], version: str = "1.0.0") -> bytes:
        """The archive as an OCI layout whose ``index.json`` lists ``entries``."""
        self.files["oci-layout"] = json.dumps({"imageLayoutVersion": version}).encode()
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        return self.tar()

    @property
    def top(self) -> str:
        """The digest of ``index.json``."""
        return digest_of(self.files["index.json"])

    def docker(self, *entries: Mapping[str, Any]) -> bytes:
        """The archive as ``docker save`` writes it, with ``entries`` in its ``manifest.json``."""
        self.files["manifest.json"] = json.dumps(entries).encode()
        return self.tar()

    def tar(self) -> bytes:
        """The archive as it stands."""
        return tarred(self.files, self.links)


def simple(name: str = "", **annotations: str) -> tuple[Made, bytes]:
    """An archive with one image of two gzip layers, under a name."""
    archive = Archive()
    made = archive.image()
    if name:
        annotations["name"] = name
    return made, archive.layout(listed(made.manifest, None, **annotations))


@dataclass(frozen=True)
class Machine:
    """The parts of a subject that the client works on."""

    content: ContentStore
    images: ImageStore
    leases: LeaseManager
    diff: Differ
    snapshotter: Callable[[str], Snapshotter] = field(repr=False)


class Tool:
    """What ``ctr images`` does, done by a client of the contract's protocols alone.

    Args:
        machine: whose records it makes and reads.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def load(
        self,
        ctx: CallContext,
        archive: bytes,
        *,
        platform: str = "",
        all_platforms: bool = False,
        base_name: str = "",
        index_name: str = "",
        digests: bool = False,
    ) -> list[Image]:
        """``ctr images import --no-unpack``."""
        choice = self.choice(platform, all_platforms=all_platforms)
        return import_archive(
            ctx, self._machine, io.BytesIO(archive), choice=choice,
            base_name=base_name, index_name=index_name, digests=digests,
        )  # fmt: skip

    def unpack(self, ctx: CallContext, image: Descriptor, snapshotter: str, *, platform: str = "") -> str:
        """The second half of ``ctr images import``: layers become snapshots; answers with the top one."""
        return unpack(ctx, self._machine, image, snapshotter, choice=self.choice(platform))

    def save(self, ctx: CallContext, *names: str, platform: str = "", all_platforms: bool = False) -> bytes:
        """``ctr images export``."""
        out = io.BytesIO()
        export_archive(ctx, self._machine, names, out, choice=self.choice(platform, all_platforms=all_platforms))
        return out.getvalue()

    def tag(self, ctx: CallContext, name: str, new: str, *, force: bool = False) -> Image:
        """``ctr images tag``."""
        images = self._machine.images
        copy = Image(new, images.get(ctx, name).target)
        if force and exists(images, ctx, new):
            images.delete(ctx, new)
        return images.create(ctx, copy)

    def completeness(self, ctx: CallContext, name: str) -> tuple[int, int]:
        """How many of an image's config and layers are here, and how many it has, as ``ctr images check`` counts."""
        content = self._machine.content
        manifest = choose(ctx, content, self._machine.images.get(ctx, name).target, Choice.default())
        blobs = [entry.descriptor.digest for entry in children(ctx, content, manifest)]
        return len(digests(content, ctx) & set(blobs)), len(blobs)

    def choice(self, platform: str, *, all_platforms: bool = False) -> Choice:
        """What ``--platform`` and ``--all-platforms`` ask for."""
        if all_platforms:
            return Choice.every()
        return Choice.only(parse(platform)) if platform else Choice.default()


@pytest.fixture
def tool(
    subject: Subject,
    recorder: Recorder,
    content: ContentStore,
    images: ImageStore,
    leases: LeaseManager,
    diff: Differ,
    snapshotters: Callable[[str], Snapshotter],
) -> Tool:
    """The client at work on the subject; every call that it makes there is recorded."""
    made = Tool(Machine(content, images, leases, diff, snapshotters))
    # Half of the contract of images binds the client: its mistakes are planted here, where a fake has no part in it.
    planted = getattr(subject, "planted", None)
    if planted is not None and planted.at == "client":
        change(made, planted.methods)
    return recorder.watch("tool", made)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one ``ctr`` command."""

    code: int
    out: str
    err: str


@pytest.fixture
def ctr(subject: Subject, recorder: Recorder) -> Callable[..., Done]:
    """Runs the real command against the subject: ``ctr(ctx, "images", "import", path)``."""

    def run(ctx: CallContext, *arguments: str) -> Done:
        command = ["ctr", "--address", subject.address, "--namespace", ctx.namespace, *arguments]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=3 * patience.SECONDS, check=False, env=dict(os.environ)
        )
        recorder.note(" ".join(command), "", ended.stdout, ended.stderr if ended.returncode else "", 0.0)
        return Done(ended.returncode, ended.stdout, ended.stderr)

    return run
