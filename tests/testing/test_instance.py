"""A fake containerd as a whole: quick to have, apart from others, and gone without a trace."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.shim.waiting import until
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, ContainerdError, Unavailable
from refimpl.contract.images import Image
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor
from refimpl.kernel import ConfigError
from refimpl.testing import FakeContainerd, fake_containerd
from tests.testing.threads import left

SECONDS = 30.0

TARGET = Descriptor("application/vnd.oci.image.index.v1+json", f"sha256:{'0' * 64}", 1)


def names(containerd: FakeContainerd) -> list[str]:
    return [image.name for image in containerd.client.images.list(containerd.ctx)]


def test_it_starts_in_less_than_150_milliseconds() -> None:
    def once() -> float:
        begin = time.process_time()
        with fake_containerd():
            return time.process_time() - begin

    # Processor time, and the best of many: how busy the machine is says nothing about the daemon.
    assert any(once() < 0.15 for _ in range(20))


def test_instances_in_one_process_share_nothing() -> None:
    with fake_containerd() as one, fake_containerd() as other:
        one.client.images.create(one.ctx, Image("a", TARGET))
        one.clock.advance(60)
        one.faults.fail("Images/Get", with_=Unavailable())

        assert (names(one), names(other)) == (["a"], [])
        assert one.clock.now() - other.clock.now() == 60 * SECOND
        assert (len(one.calls), len(other.calls)) == (2, 1)
        assert one.address != other.address


def test_instances_can_be_started_from_many_threads() -> None:
    def live(number: int) -> list[str]:
        with fake_containerd() as containerd:
            containerd.client.images.create(containerd.ctx, Image(f"image-{number}", TARGET))
            return names(containerd)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(live, range(12))) == [[f"image-{number}"] for number in range(12)]


def test_a_stop_leaves_no_thread_no_socket_and_no_directory() -> None:
    cancel = CancelToken()

    def hang(containerd: FakeContainerd) -> None:
        with pytest.raises(ContainerdError):
            containerd.client.images.get(CallContext("default", cancel=cancel), "x")

    def listen(containerd: FakeContainerd) -> None:
        with contextlib.suppress(ContainerdError):
            list(containerd.client.events.subscribe(containerd.ctx))

    before = set(threading.enumerate())
    with fake_containerd() as containerd:
        folder = Path(containerd.address).parent
        assert folder.is_dir()
        containerd.faults.hang("Images/Get")
        busy = [threading.Thread(target=each, args=(containerd,)) for each in (hang, listen)]
        for thread in busy:
            thread.start()
        containerd.calls.wait_for("Images/Get", seconds=SECONDS)
        containerd.calls.wait_for("Events/Subscribe", seconds=SECONDS)
    for thread in busy:
        thread.join(SECONDS)

    assert left(before) == []
    assert not folder.exists()
    # gRPC closes its sockets on threads of its own.
    assert until(lambda: folder.name not in Path("/proc/net/unix").read_text(encoding="utf-8"), SECONDS)


def test_nothing_is_left_of_one_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where nobody else makes one, and short enough for a socket.
    with tempfile.TemporaryDirectory(prefix="i-", dir="/tmp") as place:
        monkeypatch.setattr("tempfile.tempdir", place)

        with pytest.raises(ConfigError, match="deletion"), fake_containerd(config="[plugins.deletion]\n"):
            raise AssertionError("it must not start")

        assert [*Path(place).iterdir()] == []


def test_its_clock_stands_still_until_it_is_moved(containerd: FakeContainerd) -> None:
    first = containerd.client.images.create(containerd.ctx, Image("a", TARGET))
    containerd.clock.advance(90)
    second = containerd.client.images.create(containerd.ctx, Image("b", TARGET))

    assert second.created_at - first.created_at == 90 * SECOND


def test_it_lives_in_real_time_on_demand() -> None:
    begin = time.time_ns()
    with fake_containerd(wall_time=True) as containerd:
        made = containerd.client.images.create(containerd.ctx, Image("a", TARGET))
        assert begin <= made.created_at <= time.time_ns()
        with pytest.raises(RuntimeError, match="real time"):
            containerd.clock.advance(1)


def test_a_restart_keeps_what_the_daemon_kept(containerd: FakeContainerd) -> None:
    containerd.seed.image("kept")
    blobs = list(containerd.client.content.walk(containerd.ctx))
    containerd.client.images.get(containerd.ctx, "kept")

    containerd.restart()

    assert again(containerd) == ["kept"]
    assert list(containerd.client.content.walk(containerd.ctx)) == blobs
    assert all(isinstance(blob, Info) for blob in blobs)
    containerd.calls.assert_called("Images/Get", times=1)


def test_tasks_outlive_a_restart(containerd: FakeContainerd) -> None:
    pid = containerd.seed.task("web").pid

    containerd.restart()

    assert again(containerd)
    assert containerd.client.tasks.get(containerd.ctx, "web").pid == pid


def test_a_restart_ends_calls_that_wait(containerd: FakeContainerd) -> None:
    containerd.faults.hang("Images/Get", on=1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(containerd.client.images.get, containerd.ctx, "x")
        containerd.calls.wait_for("Images/Get", seconds=SECONDS)
        containerd.restart()
        assert isinstance(answer.exception(SECONDS), Unavailable | Canceled)


def test_it_is_configured_as_containerd_is() -> None:
    with fake_containerd(config='disabled_plugins = ["io.containerd.grpc.v1.leases"]\n') as containerd:
        with pytest.raises(ContainerdError, match=r"unknown service containerd.services.leases.v1.Leases"):
            containerd.client.leases.list(containerd.ctx)
        assert names(containerd) == []


def test_programs_find_it_by_their_environment() -> None:
    with fake_containerd(namespace="mine") as containerd:
        found = containerd.environment
        assert (found["CONTAINERD_ADDRESS"], found["CONTAINERD_NAMESPACE"]) == (containerd.address, "mine")
        assert found["PATH"]
        containerd.seed.image()
        assert containerd.client.images.list(CallContext("default")) == []
        assert len(names(containerd)) == 1


def test_a_long_temporary_directory_does_not_make_the_socket_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))

    with fake_containerd() as containerd:
        assert names(containerd) == []


def again(containerd: FakeContainerd) -> list[str]:
    """The images, from a client that may first have to notice that its connection is gone."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return names(containerd)
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.01)
