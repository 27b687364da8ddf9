"""Tasks: checkpoints and what is made of them again (TSK-078 to 086).

No check needs CRIU: an OCI runtime of the suite's own hands everything to runc, except that it writes two files in the
place of a checkpoint, and begins anew in the place of a restore. What containerd makes of both is the same.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as Packed

from conformance import clause
from conformance.suites._content import read
from conformance.suites._events import listen
from conformance.suites._tasks import (
    LASTING,
    PATIENCE,
    SPEC,
    Later,
    box,
    bundle,
    outputs,
    packed,
    runc_options,
    soon,
    streams,
    told,
)
from refimpl.api import runc_v1_pb2
from refimpl.contract.errors import NotFound, Unknown
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.types import Descriptor, TypedAny

TASKS = 'topic~="^/tasks/"'

IMAGE_TYPE = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
CONFIG_TYPE = "application/vnd.containerd.container.checkpoint.config.v1+proto"

RUNTIME_PROGRAM = """#!/bin/sh
echo "$*" >> {folder}/calls
case " $* " in *" checkpoint "*)
    {fail}
    while [ "$1" != --image-path ]; do shift; done
    echo "{text}" > "$2/pages-1.img"
    echo inventory > "$2/inventory.img"
    touch -d @0 "$2" "$2/pages-1.img" "$2/inventory.img"
    exit 0
esac
left=$#
while [ $left -gt 0 ]; do
    word=$1; shift; left=$((left - 1))
    case $word in
    restore) set -- "$@" run;;
    --image-path|--work-path) if [ -n "$restoring" ]; then shift; left=$((left - 1)); else set -- "$@" "$word"; fi;;
    *) set -- "$@" "$word";;
    esac
    [ "$word" = restore ] && restoring=yes
done
exec {runc} "$@"
"""
"""An OCI runtime: runc, but for two commands."""


class Runtime:
    """An OCI runtime of a check's own.

    Args:
        folder: where it is.
        fail: whether its checkpoints fail.
        text: what it writes in one.
    """

    def __init__(self, folder: Path, text: str, *, fail: bool = False) -> None:
        self._folder = folder
        said = 'echo "criu is not well" >&2; exit 1' if fail else ""
        self.path = folder / "runtime"
        program = RUNTIME_PROGRAM.format(folder=folder, fail=said, text=text, runc=_runc())
        self.path.write_text(program)
        self.path.chmod(0o755)

    def options(self, **fields):
        """Options that name it."""
        return runc_options(binary_name=str(self.path), **fields)

    def call(self, command):
        """The words of its last call of a command, from the command on."""
        calls = [line.split() for line in (self._folder / "calls").read_text().splitlines()]
        found = next(words for words in reversed(calls) if command in words)
        return found[found.index(command) :]


def _runc():
    found = shutil.which("runc")
    assert found is not None, "the word `shim` is offered for runc's shim"
    return found


@pytest.fixture
def oci(streams, unique):
    """Makes OCI runtimes: ``oci()``."""
    return lambda **options: Runtime(streams.folder, unique("pages"), **options)


def _options(**fields):
    """Options of a checkpoint."""
    return TypedAny("containerd.runc.v1.CheckpointOptions", runc_v1_pb2.CheckpointOptions(**fields).SerializeToString())


def _checkpoint(found, **options):
    return found.tasks.checkpoint(soon(found.ctx, 2 * PATIENCE), found.id, **options)


@clause("TSK-078", needs={"runc"})
def test_a_checkpoint_needs_a_task_that_runs(box):
    """Rejects: a checkpoint of what has not begun, or is over."""
    found = box(*LASTING)
    found.create()
    with pytest.raises(Unknown):
        _checkpoint(found)
    assert found.status() is Status.CREATED

    found.start()
    end = found.end()
    with pytest.raises(Unknown):
        _checkpoint(found)
    assert found.wait() == end


@clause("TSK-078", needs={"shim"})
def test_a_checkpoint_that_fails_changes_nothing(oci, box):
    """Rejects: a container that ends with its failed checkpoint, or a failure of which nothing is said."""
    found = box(*LASTING, options=oci(fail=True).options())
    found.run()

    with pytest.raises(Unknown, match="criu is not well"):
        _checkpoint(found)
    assert found.status() is Status.RUNNING
    found.pause()
    with pytest.raises(Unknown):
        _checkpoint(found)
    assert found.status() is Status.PAUSED


@clause("TSK-079", needs={"shim"})
def test_a_checkpoint_is_two_blobs(oci, ctx, box, content):
    """Rejects: an index of them, a compressed image, or a task that ends."""
    runtime = oci()
    found = box(*LASTING, options=runtime.options())
    found.run()

    image, config = _checkpoint(found)

    assert (image.media_type, config.media_type) == (IMAGE_TYPE, CONFIG_TYPE)
    with tarfile.open(fileobj=io.BytesIO(read(content, ctx, image.digest)), mode="r:") as archive:
        names = {Path(member.name).name for member in archive if member.isfile()}
    assert {"pages-1.img", "inventory.img"} <= names
    spec = Packed.FromString(read(content, ctx, config.digest))
    assert spec.type_url == SPEC
    assert spec.value == found.containers.get(ctx, found.id).spec.value
    for descriptor in (image, config):
        info = content.info(ctx, descriptor.digest)
        assert (info.size, dict(info.labels)) == (descriptor.size, {})
    assert found.status() is Status.RUNNING
    assert "--leave-running" in runtime.call("checkpoint")


@clause("TSK-079", needs={"shim", "gc"})
def test_nothing_keeps_the_blobs_of_a_checkpoint(oci, unleased, bundle, collect, content):
    """Rejects: blobs that stay for ever."""
    found = bundle(unleased, LASTING, options=oci().options())
    found.run()

    image, config = _checkpoint(found)
    collect(unleased)

    for descriptor in (image, config):
        with pytest.raises(NotFound):
            content.info(unleased, descriptor.digest)


@clause("TSK-080", needs={"shim"})
def test_a_second_checkpoint_may_be_equal_to_the_first(oci, ctx, box, content):
    """Rejects: a blob that is deleted because it is there already."""
    found = box(*LASTING, options=oci().options())
    found.run()
    found.pause()
    first = _checkpoint(found)

    second = Later(lambda: _checkpoint(found)).outcome()

    assert [content.info(ctx, d.digest).size for d in first] == [d.size for d in first]
    if isinstance(second, Unknown) and "already exists" in str(second):
        pytest.skip("this release refuses a checkpoint whose blobs are there already")
    assert second == first


@clause("TSK-081", needs={"shim"})
def test_a_checkpoint_may_go_into_a_directory(oci, box, streams):
    """Rejects: blobs as well, or options that do not reach the runtime."""
    runtime = oci()
    image, work = (streams.folder / name for name in ("image", "work"))
    image.mkdir()
    work.mkdir()
    found = box(*LASTING, options=runtime.options())
    found.run()

    options = _options(image_path=str(image), work_path=str(work), exit=True, open_tcp=True)
    assert _checkpoint(found, options=options) == []

    assert {file.name for file in image.iterdir()} == {"pages-1.img", "inventory.img"}
    words = runtime.call("checkpoint")
    assert "--leave-running" not in words
    assert "--tcp-established" in words
    assert words[words.index("--image-path") + 1] == str(image)
    assert words[words.index("--work-path") + 1] == str(work)


@clause("TSK-081", needs={"runc"})
def test_options_of_another_type_are_no_options_of_a_checkpoint(box):
    """Rejects: options that nobody looks at."""
    found = box(*LASTING)
    found.run()

    with pytest.raises(Unknown):
        _checkpoint(found, options=runc_options())

    assert found.status() is Status.RUNNING


@clause("TSK-082", needs={"shim"})
def test_a_checkpoint_need_not_be_told(oci, box, listen):
    """Rejects: other events in the place of one."""
    ear = listen(TASKS)
    found = box(*LASTING, options=oci().options())
    found.run()

    _checkpoint(found)

    ear.until("/tasks/start")
    topics = [topic.removeprefix("/tasks/") for topic, _ in told(ear)]
    assert topics in (["create", "start"], ["create", "start", "checkpointed"])


@clause("TSK-083", needs={"runc"})
def test_what_is_no_checkpoint_is_not_restored(ctx, blob, box):
    """Rejects: a task that starts afresh instead."""
    digest = blob(b"no checkpoint " + ctx.namespace.encode())
    found = box(*LASTING)

    for descriptor in (
        Descriptor("x/y", digest, len(ctx.namespace) + 14),
        Descriptor(IMAGE_TYPE, "sha256:" + "0" * 64, 10),
    ):
        with pytest.raises(Unknown):
            found.create(checkpoint=descriptor)
        assert found.gone()


@pytest.fixture
def restored(oci, box, listen):
    """A container whose task was made from a checkpoint and not started yet, and where that was unpacked."""
    ear = listen(TASKS)
    runtime = oci()
    before = box(*LASTING, options=runtime.options())
    before.run()
    image, _ = _checkpoint(before)
    found = box(*LASTING, options=runtime.options())
    assert found.create(checkpoint=image) == 0
    ear.until("/tasks/create", 2)
    folder = Path(next(message.checkpoint for topic, message in told(ear, id=found.id) if topic == "/tasks/create"))
    yield found, folder
    found.close()
    shutil.rmtree(folder, ignore_errors=True)


@clause("TSK-083", needs={"shim"})
def test_a_restore_begins_with_the_start(restored):
    """Rejects: a task that runs before it is started."""
    found, folder = restored
    assert folder.is_absolute()
    state = found.get()
    assert (state.pid, state.status) == (0, Status.CREATED)

    pid = found.start()

    assert pid > 0
    state = found.get()
    assert (state.pid, state.status) == (pid, Status.RUNNING)
    assert found.end().status == 137


@clause("TSK-084", needs={"shim"})
def test_a_task_to_be_restored_can_do_little(restored):
    """Rejects: calls that hang at a process which is not there."""
    found, _ = restored

    for call in (lambda: found.exec("e", "true"), found.pause, lambda: _checkpoint(found), found.pids):
        with pytest.raises(Unknown):
            call()
    with pytest.raises(NotFound):
        found.kill(15)
    assert found.tasks.metrics(soon(found.ctx), [f"id=={found.id}"]) == []
    assert found.start() > 0


@clause("TSK-084", needs={"shim"})
def test_a_task_to_be_restored_can_be_deleted(restored):
    """Rejects: a task that has to be started to be got rid of."""
    found, _ = restored

    found.delete()

    assert found.gone()


@clause("TSK-085", needs={"shim"})
def test_a_directory_may_be_restored(oci, box, listen, streams):
    """Rejects: options that nobody looks at."""
    ear = listen(TASKS)
    folder = streams.folder / "image"
    folder.mkdir()
    found = box(*LASTING)

    assert found.create(options=oci().options(criu_image_path=str(folder))) == 0

    state = found.get()
    assert (state.pid, state.status) == (0, Status.CREATED)
    ear.until("/tasks/create")
    [message] = [message for topic, message in told(ear) if topic == "/tasks/create"]
    assert message.checkpoint == str(folder)


@clause("TSK-086", needs={"shim", "disk"})
def test_an_unpacked_checkpoint_is_not_needed_to_delete_its_task(restored):
    """Rejects: a directory that is gone before the start, or has to be there at the end."""
    found, folder = restored
    assert {file.name for file in folder.iterdir()} >= {"pages-1.img", "inventory.img"}
    found.start()
    shutil.rmtree(folder, ignore_errors=True)

    found.end()
    found.delete()

    assert found.gone()
