"""Checkpoints: from a runtime's directory into the content store, and back into a directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as ProtoAny

from refimpl.api import linux_runc_pb2, runc_v1_pb2, typeurl
from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.scratch import FakeScratch
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound, Unknown
from refimpl.contract.scratch import Scratch
from refimpl.contract.tasks import CreateTask
from refimpl.contract.types import Descriptor, TypedAny
from refimpl.kernel import assemble
from refimpl.services.tasks import TasksService
from refimpl.services.tasks_checkpoints import CHECKPOINT, CONFIG, Checkpoints, image_path, restore_path
from refimpl.services.tasks_runtimes import Runtimes
from tests.services.test_tasks import LINUX_V1, RUNC, Containers
from tests.services.tiny_runtime import TinyMonitor, TinyRuntime

NS = CallContext(namespace="ns")
SPEC = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b'{"a":1}')
Options = runc_v1_pb2.Options | runc_v1_pb2.CheckpointOptions
LinuxOptions = linux_runc_pb2.CreateOptions | linux_runc_pb2.CheckpointOptions


def packed(message: Options | LinuxOptions) -> TypedAny:
    packed = typeurl.pack(message)
    return TypedAny(packed.type_url, packed.value)


class World:
    """A tasks service over a fake host's disk and a content store with namespaces."""

    def __init__(self, host: FakeHost, content: ContentStore, scratch: Scratch) -> None:
        self.host, self.content = host, content
        self.runtime = TinyRuntime()
        self.runtime.write_checkpoint = self.dump
        containers = Containers(Container("c1", runtime=RuntimeInfo(RUNC), spec=SPEC))
        checkpoints = Checkpoints(content, scratch, host.clock)
        runtimes = Runtimes({LINUX_V1: TinyRuntime(LINUX_V1)}, self.runtime)
        log = logging.getLogger("test.checkpoints")
        self.service = TasksService(containers, runtimes, TinyMonitor(), checkpoints, host.clock, log)

    def dump(self, path: str) -> None:
        self.host.fs.makedirs(f"{path}/below")
        self.host.fs.write(f"{path}/core.img", b"core")
        self.host.fs.write(f"{path}/below/pages.img", b"pages")

    def directories(self) -> list[str]:
        names = self.host.fs.listdir("/tmp") if self.host.fs.exists("/tmp") else []
        return [name for name in names if name.startswith("ctrd-checkpoint")]

    def blob(self, descriptor: Descriptor) -> bytes:
        reader = self.content.reader(NS, descriptor.digest)
        return reader.read_at(0, reader.size)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    # Time stands still, so that no collection takes blobs that nothing refers to.
    host = FakeHost(FakeClock())
    kernel = assemble(
        root=tmp_path / "never",
        state=tmp_path / "never",
        backends="fake",
        clock=host.clock,
        entry_points=False,
        resources={FakeHost: host},
    )
    metadata: Any = kernel.boot()["io.containerd.metadata.v1.bolt"].instance()
    yield World(host, metadata.content, FakeScratch(host))
    kernel.close()


def test_a_checkpoint_is_the_directory_and_the_spec_in_this_order(world: World) -> None:
    world.service.create(NS, CreateTask("c1"))
    image, config = world.service.checkpoint(NS, "c1")
    assert (image.media_type, config.media_type) == (CHECKPOINT, CONFIG)
    assert (image.size, config.size) == (len(world.blob(image)), len(world.blob(config)))
    assert ProtoAny.FromString(world.blob(config)) == ProtoAny(type_url=SPEC.type_url, value=SPEC.value)
    assert world.content.info(NS, image.digest).labels == {}
    assert world.directories() == [], "nothing stays on the disk"
    assert world.content.list_statuses(NS) == []


def test_what_was_stored_can_be_restored(world: World) -> None:
    world.service.create(NS, CreateTask("c1"))
    image, _ = world.service.checkpoint(NS, "c1")
    world.service.delete(NS, "c1")
    assert world.service.create(NS, CreateTask("c1", checkpoint=image)) == 0
    path = world.runtime.made["ns", "c1"].options.checkpoint
    assert world.host.fs.read(f"{path}/core.img") == b"core"
    assert world.host.fs.read(f"{path}/below/pages.img") == b"pages"


def test_the_same_checkpoint_again_has_the_same_descriptors(world: World) -> None:
    world.service.create(NS, CreateTask("c1"))

    def dump(path: str) -> None:
        world.dump(path)
        for below in ("/core.img", "/below/pages.img", "/below"):
            world.host.fs.utime(path + below, 0, 0)

    world.runtime.write_checkpoint = dump
    assert world.service.checkpoint(NS, "c1") == world.service.checkpoint(NS, "c1")


def test_a_checkpoint_that_fails_stores_nothing(world: World) -> None:
    world.service.create(NS, CreateTask("c1"))
    world.runtime.made["ns", "c1"].checkpoint_error = Unknown("criu failed")
    with pytest.raises(Unknown, match="criu failed"):
        world.service.checkpoint(NS, "c1")
    assert list(world.content.walk(NS)) == []
    assert world.directories() == []


def test_a_checkpoint_with_a_directory_of_its_own_stays_there(world: World) -> None:
    world.service.create(NS, CreateTask("c1"))
    options = packed(runc_v1_pb2.CheckpointOptions(image_path="/image", exit=True))
    assert world.service.checkpoint(NS, "c1", options=options) == []
    assert world.runtime.made["ns", "c1"].done == [("checkpoint", "/image", options)]
    assert world.host.fs.read("/image/core.img") == b"core"
    assert list(world.content.walk(NS)) == []


def test_a_restore_from_a_directory_needs_no_content(world: World) -> None:
    options = packed(runc_v1_pb2.Options(criu_image_path="/image"))
    assert world.service.create(NS, CreateTask("c1", options=options, checkpoint=Descriptor("x/y"))) == 0
    assert world.runtime.made["ns", "c1"].options.checkpoint == "/image"
    assert world.directories() == []


MISSING = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "descriptor,text",
    [
        (Descriptor("x/y"), 'unsupported checkpoint type "x/y"'),
        (Descriptor(CHECKPOINT, MISSING), f"content digest {MISSING}: not found"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_makes_no_task(world: World, descriptor: Descriptor, text: str) -> None:
    with pytest.raises(Unknown) as caught:
        world.service.create(NS, CreateTask("c1", checkpoint=descriptor))
    assert str(caught.value) == text
    assert not world.runtime.made
    assert world.directories() == []


def test_what_was_unpacked_for_a_task_that_failed_is_removed(world: World) -> None:
    world.service.create(NS, CreateTask("c1"))
    image, config = world.service.checkpoint(NS, "c1")
    with pytest.raises(Unknown):
        # The spec is no tar.
        world.service.create(NS, CreateTask("c1", checkpoint=Descriptor(CHECKPOINT, config.digest, config.size)))
    world.service.delete(NS, "c1")
    world.runtime.fails["c1"] = NotFound("no shim")
    with pytest.raises(NotFound):
        world.service.create(NS, CreateTask("c1", checkpoint=image))
    assert world.directories() == []


@pytest.mark.parametrize(
    "runtime,options,path",
    [
        (RUNC, None, ""),
        (RUNC, packed(runc_v1_pb2.Options()), ""),
        ("io.containerd.runc.v1", packed(runc_v1_pb2.Options(criu_image_path="/a")), "/a"),
        (LINUX_V1, packed(linux_runc_pb2.CreateOptions(criu_image_path="/b")), "/b"),
        ("io.containerd.other.v1", packed(runc_v1_pb2.Options(criu_image_path="/a")), ""),
        ("io", TypedAny("foo.Bar"), ""),
    ],
)
def test_options_of_a_create_name_a_directory(runtime: str, options: TypedAny | None, path: str) -> None:
    assert restore_path(runtime, options) == path


@pytest.mark.parametrize(
    "runtime,options,path",
    [
        (RUNC, None, ""),
        (RUNC, packed(runc_v1_pb2.CheckpointOptions(image_path="/a")), "/a"),
        (LINUX_V1, packed(linux_runc_pb2.CheckpointOptions(image_path="/b")), "/b"),
        ("io.containerd.other.v1", TypedAny("foo.Bar"), ""),
    ],
)
def test_options_of_a_checkpoint_name_a_directory(runtime: str, options: TypedAny | None, path: str) -> None:
    assert image_path(runtime, options) == path


@pytest.mark.parametrize(
    "runtime,wrong", [(RUNC, linux_runc_pb2.CheckpointOptions()), (LINUX_V1, runc_v1_pb2.Options())]
)
def test_options_of_a_checkpoint_have_their_type(runtime: str, wrong: Options | LinuxOptions) -> None:
    with pytest.raises(Unknown, match=f"^invalid task checkpoint option for {runtime}$"):
        image_path(runtime, packed(wrong))
    with pytest.raises(Unknown, match=r"^type with url foo\.Bar: not found$"):
        image_path(runtime, TypedAny("foo.Bar"))
    with pytest.raises(Unknown, match="malformed"):
        restore_path(runtime, TypedAny("containerd.runc.v1.Options", b"\xff"))
