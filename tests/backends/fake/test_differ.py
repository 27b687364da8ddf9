"""The walking differ in a whole fake kernel: content store, snapshotters and mounts around it (DIF-001 to DIF-056)."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from refimpl.archive.media_types import TAR, TAR_GZIP
from refimpl.archive.walking import UNCOMPRESSED_LABEL
from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.host import FakeHost
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.diff import Differ
from refimpl.contract.errors import (
    Canceled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.types import Descriptor
from refimpl.kernel import assembled
from tests.archive.archives import archive, file, whiteout

CTX = CallContext("default")
LAYER = archive(file("file", b"content", mode=0o4755), file("dir/below", mtime=5))


@dataclass
class World:
    """The plugins that a layer goes through."""

    host: FakeHost
    differ: Differ
    content: ContentStore
    snapshotters: dict[str, Snapshotter]

    def blob(self, data: bytes, ctx: CallContext = CTX, **labels: str) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        writer = self.content.writer(ctx, f"ref-{digest}")
        writer.write(data)
        writer.commit(ctx, len(data), digest, labels)
        return digest

    def apply(self, data: bytes, mounts: list[Mount], media_type: str = TAR_GZIP) -> Descriptor:
        return self.differ.apply(CTX, Descriptor(media_type, self.blob(data), len(data)), mounts)

    def ingests(self) -> list[str]:
        return [status.ref for status in self.content.list_statuses(CTX)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    host = FakeHost(FakeClock())
    resources: dict[type[Any], object] = {FakeHost: host}
    # The kernel gets the clock that stands still: the collection after the start never comes, and takes nothing away.
    with assembled(root=tmp_path, state=tmp_path, backends="fake", resources=resources, clock=host.clock) as plugins:
        metadata: Any = plugins.get("io.containerd.metadata.v1")
        differ: Any = plugins.get_by_id("io.containerd.differ.v1", "walking")
        host.fs.mkdir("/target")
        yield World(host, differ, metadata.content, dict(metadata.snapshotters))
        temporary = "/var/lib/containerd/tmpmounts"
        assert not host.fs.exists(temporary) or host.fs.listdir(temporary) == [], "no temporary mount is left"


TARGET = [Mount("bind", "/target", options=("rbind", "rw"))]


@pytest.mark.parametrize("data", [LAYER, gzip.compress(LAYER), zstandard.compress(LAYER)], ids=["tar", "gzip", "zstd"])
def test_apply_answers_with_the_tar_inside_whatever_is_around_it(world: World, data: bytes) -> None:
    assert world.apply(data, TARGET) == Descriptor(TAR, f"sha256:{hashlib.sha256(LAYER).hexdigest()}", len(LAYER))
    assert world.host.fs.read("/target/file") == b"content"
    assert world.host.fs.lstat("/target/file").mode == 0o4755


def test_what_stands_behind_the_archive_counts_too(world: World) -> None:
    data = LAYER + b"padding"
    assert world.apply(data, TARGET, TAR).digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_an_empty_blob_is_an_empty_layer(world: World) -> None:
    assert world.apply(b"", TARGET) == Descriptor(TAR, f"sha256:{hashlib.sha256(b'').hexdigest()}", 0)


def test_apply_leaves_the_blobs_record_alone(world: World) -> None:
    digest = world.blob(LAYER, own="label")
    before = world.content.info(CTX, digest)
    world.differ.apply(CTX, Descriptor(TAR, digest), TARGET)
    assert world.content.info(CTX, digest) == before


@pytest.mark.parametrize("name", ["aufs", "btrfs", "devmapper", "native", "overlayfs", "zfs"])
def test_layers_go_into_and_come_out_of_every_snapshotter(world: World, name: str) -> None:
    snapshotter = world.snapshotters[name]
    world.apply(LAYER, snapshotter.prepare(CTX, "a"), TAR)
    snapshotter.commit(CTX, "one", "a")
    world.apply(archive(whiteout(".wh.file"), file("dir/more")), snapshotter.prepare(CTX, "b", "one"), TAR)
    snapshotter.commit(CTX, "two", "b")
    with world.host.mounter.mounted(CTX, snapshotter.view(CTX, "look", "two")) as root:
        assert [path for path, _ in root.walk()] == ["/", "/dir", "/dir/below", "/dir/more"]

    made = world.differ.compare(
        CTX, snapshotter.view(CTX, "lower", "one"), snapshotter.view(CTX, "upper", "two"), media_type=TAR
    )
    reader = world.content.reader(CTX, made.digest)
    with world.host.mounter.mounted(CTX, []) as scratch:
        scratch.write("/layer", reader.read_at(0, reader.size))
        with scratch.open("/layer") as layer, tarfile.open(fileobj=layer) as tar:
            assert tar.getnames() == ["dir", "dir/more", ".wh.file"]
        scratch.unlink("/layer")


def test_an_overlays_upper_directory_is_written_without_a_mount(world: World) -> None:
    for name in ("lower", "upper", "work"):
        world.host.fs.mkdir(f"/{name}")
    world.host.fs.mkdir("/lower/dir", 0o750)
    world.host.fs.lchown("/lower/dir", 5, 6)
    options = ("upperdir=/upper", "workdir=/work", "lowerdir=/lower")
    world.apply(archive(file("dir/new"), whiteout(".wh.gone")), [Mount("overlay", "overlay", options=options)], TAR)
    stat = world.host.fs.lstat("/upper/dir")
    assert (stat.mode, stat.uid, stat.gid) == (0o750, 5, 6)
    assert world.host.fs.lstat("/upper/gone").device == (0, 0)
    assert world.host.fs.listdir("/work") == [], "the kernel would have made its own directory there"


@pytest.mark.parametrize(
    "media_type,mounts,kind,text",
    [
        ("text/plain", TARGET, Unknown, "failed to get stream processor for text/plain: no processor for media-type"),
        (TAR, [], InvalidArgument, "no mounts"),
        (TAR, [Mount("bind", "/none", options=("rbind",))], Unknown, "failed to mount: /none: no such file"),
        (TAR, [Mount("nosuch", "/none")], Unknown, "failed to mount: nosuch: no such device"),
        (TAR, [Mount("bind", "/target", options=("rbind", "ro"))], Unknown, "read-only file system"),
    ],
)
def test_an_apply_that_cannot_work_changes_nothing(
    world: World, media_type: str, mounts: list[Mount], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        world.apply(LAYER, mounts, media_type)
    assert world.host.fs.listdir("/target") == []


def test_damage_is_reported_with_what_was_being_done(world: World) -> None:
    with pytest.raises(Unknown) as error:
        world.apply(b"x" * 1024, TARGET, TAR)
    assert str(error.value) == "mount callback failed: archive/tar: invalid tar header"


def test_of_two_trees_the_one_that_cannot_be_mounted_is_told(world: World) -> None:
    nothing = [Mount("bind", "/none", options=("rbind",))]
    with pytest.raises(Unknown, match=r"^failed to mount: /none: no such file or directory$"):
        world.differ.compare(CTX, nothing, [])
    with pytest.raises(Unknown, match=r"^mount callback failed: failed to mount: /none: no such file or directory$"):
        world.differ.compare(CTX, [], nothing)


def test_a_refusal_of_the_store_keeps_its_kind(world: World) -> None:
    digest = world.blob(LAYER)
    with pytest.raises(FailedPrecondition, match=r"^failed to get reader from content store: namespace is required"):
        world.differ.apply(CallContext(), Descriptor(TAR, digest), TARGET)
    with pytest.raises(InvalidArgument, match=r"^failed to get reader from content store: namespace validation: "):
        world.differ.apply(CallContext("a b"), Descriptor(TAR, digest), TARGET)
    with pytest.raises(NotFound, match=r"^failed to get reader from content store: content digest none: not found$"):
        world.differ.apply(CTX, Descriptor(TAR, "none"), TARGET)


def test_a_blob_is_looked_up_in_the_callers_namespace(world: World) -> None:
    digest = world.blob(LAYER)
    for ctx, name in ((CTX.with_namespace("other"), digest), (CTX, "sha256:" + "0" * 64), (CTX, "nonsense")):
        with pytest.raises(NotFound, match=f"failed to get reader from content store: content digest {name}"):
            world.differ.apply(ctx, Descriptor(TAR, name), TARGET)
    with pytest.raises(FailedPrecondition, match="namespace is required"):
        world.differ.apply(CallContext(), Descriptor(TAR, digest), TARGET)


def test_an_abandoned_call_stops_and_leaves_no_mount_and_no_ingest(world: World) -> None:
    digest, cancel = world.blob(LAYER), CancelToken()
    gone = CallContext("default", cancel=cancel)
    cancel.cancel()
    with pytest.raises(Canceled):
        world.differ.apply(gone, Descriptor(TAR, digest), TARGET)
    with pytest.raises(Canceled):
        world.differ.compare(gone, [], TARGET)
    assert (world.host.mounts.entries(), world.ingests()) == (_permanent(world), [])


def _permanent(world: World) -> list[object]:
    return [entry for entry in world.host.mounts.entries() if "snapshotter" in entry.target]


def test_a_difference_is_a_gzip_layer_with_its_diff_id_and_the_callers_labels(world: World) -> None:
    world.host.fs.write("/target/file", b"x")
    labels = {"own": "label", UNCOMPRESSED_LABEL: "overridden"}
    made = world.differ.compare(CTX, [], TARGET, labels=labels)
    reader = world.content.reader(CTX, made.digest)
    packed = reader.read_at(0, reader.size)
    assert (made.media_type, made.size) == (TAR_GZIP, len(packed))
    diff_id = f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
    assert world.content.info(CTX, made.digest).labels == {"own": "label", UNCOMPRESSED_LABEL: diff_id}
    assert world.differ.compare(CTX, [], TARGET) == made, "equal trees give the same blob"
    assert world.ingests() == []


def test_a_plain_difference_has_the_callers_labels_only(world: World) -> None:
    made = world.differ.compare(CTX, [], TARGET, media_type=TAR, labels={"own": "label"})
    assert made.digest == "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    assert world.content.info(CTX, made.digest).labels == {"own": "label"}


def test_a_layer_that_exists_keeps_its_labels_and_gets_the_missing_one(world: World) -> None:
    first = world.differ.compare(CTX, [], TARGET, labels={"own": "label"})
    info = world.content.info(CTX, first.digest)
    diff_id = dict(info.labels).pop(UNCOMPRESSED_LABEL)
    world.content.update(CTX, type(info)(info.digest, labels={"own": "other"}))
    assert world.differ.compare(CTX, [], TARGET, labels={"own": "label"}) == first
    assert world.content.info(CTX, first.digest).labels == {"own": "other", UNCOMPRESSED_LABEL: diff_id}


def test_a_given_ref_is_emptied_used_and_left_on_failure(world: World) -> None:
    writer = world.content.writer(CTX, "given")
    writer.write(b"earlier")
    with pytest.raises(Unavailable):
        world.differ.compare(CTX, [], TARGET, ref="given")
    writer.close()
    with pytest.raises(InvalidArgument):
        world.differ.compare(CTX, [], TARGET, ref="given", labels={"a": "b" * 5000})
    assert world.ingests() == ["given"]
    world.differ.compare(CTX, [], TARGET, ref="given")
    assert world.ingests() == []


def test_a_private_ref_is_gone_after_a_failure(world: World) -> None:
    with pytest.raises(InvalidArgument):
        world.differ.compare(CTX, [], TARGET, labels={"a": "b" * 5000})
    assert world.ingests() == []


def test_a_media_type_that_no_layer_is_made_in_is_unimplemented(world: World) -> None:
    media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    with pytest.raises(Unimplemented, match=f"unsupported diff media type: {media_type}"):
        world.differ.compare(CTX, [], TARGET, media_type=media_type)


def test_a_difference_needs_mounts_that_work_and_a_namespace(world: World) -> None:
    broken = [Mount("bind", "/none", options=("rbind",))]
    for sides in ((broken, TARGET), (TARGET, broken)):
        with pytest.raises(Unknown, match="no such file or directory"):
            world.differ.compare(CTX, *sides)
    with pytest.raises(FailedPrecondition, match="namespace is required"):
        world.differ.compare(CallContext(), [], TARGET)


def test_layers_are_applied_and_compared_in_parallel(world: World) -> None:
    digest = world.blob(gzip.compress(LAYER))
    overlayfs = world.snapshotters["overlayfs"]

    def work(number: int) -> str:
        mounts = overlayfs.prepare(CTX, f"key-{number}")
        world.differ.apply(CTX, Descriptor(TAR_GZIP, digest), mounts)
        overlayfs.commit(CTX, f"layer-{number}", f"key-{number}")
        view = overlayfs.view(CTX, f"view-{number}", f"layer-{number}")
        # One of them has a directory that the layer only implies, made at the host's time, which stands still.
        return world.differ.compare(CTX, [], view).digest

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(work, range(24)))) == 1
