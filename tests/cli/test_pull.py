"""``refimpl pull``: what it prints, how it fails, and what an interrupt leaves. What it fetches is in tests/client."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from refimpl.contract.context import CallContext
from refimpl.testing import FakeContainerd, fake_containerd
from tests.acceptance.test_ctr_tasks import Told
from tests.cli.commands import Command
from tests.client.registry import Registry, digest_of, serving, tar
from tests.client.signals import heard

SECONDS = 60.0
MIB = 1 << 20

SMALL = tar({"etc/motd": b"hello\n"})
BIG = tar({"big": b"0123456789abcdef" * (2 * MIB // 16)})


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as made:
        yield made


@pytest.fixture
def image(registry: Registry) -> str:
    return registry.name(registry.image([SMALL, BIG]))


@pytest.fixture
def daemon() -> Iterator[FakeContainerd]:
    with fake_containerd() as made:
        yield made


@pytest.fixture
def environment(daemon: FakeContainerd, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The daemon is that of ``CONTAINERD_ADDRESS``, for programs and for us."""
    monkeypatch.setenv("CONTAINERD_ADDRESS", daemon.address)
    return daemon.environment


def left(daemon: FakeContainerd) -> list[object]:
    client, ctx = daemon.client, daemon.ctx
    return [*client.images.list(ctx), *client.leases.list(ctx), *client.snapshotter("overlayfs").walk(ctx)]


@pytest.mark.usefixtures("environment")
def test_every_blob_has_its_line_and_the_image_the_last(refimpl: Command, registry: Registry, image: str) -> None:
    top = registry.tags["lib/one:1"]

    first, second = refimpl("pull", image), refimpl("pull", image)

    assert (first.status, first.err) == (0, "")
    lines = first.out.splitlines()
    assert lines[0] == f"manifest {top[7:19]}: fetched"
    assert {f"layer {digest_of(layer)[7:19]}: fetched" for layer in (SMALL, BIG)} < set(lines)
    assert lines[-1] == f"{image} {top}"
    # Blobs come side by side, so their order may differ.
    assert sorted(second.out.splitlines()) == sorted(first.out.replace("fetched", "there already").splitlines())


def test_json_is_all_there_is(refimpl: Command, daemon: FakeContainerd, registry: Registry, image: str) -> None:
    done = refimpl("pull", "--json", "-a", daemon.address, "-n", "other", image)

    found = json.loads(done.out)
    record = daemon.client.images.get(CallContext(namespace="other"), image)
    assert (found["name"], found["digest"], found["size"]) == (image, record.target.digest, record.target.size)
    snapshot = daemon.client.snapshotter("overlayfs").stat(CallContext(namespace="other"), found["chainID"])
    assert snapshot.parent == digest_of(SMALL)


@pytest.mark.usefixtures("environment")
def test_nothing_is_unpacked_that_shall_not_be(refimpl: Command, daemon: FakeContainerd, image: str) -> None:
    assert json.loads(refimpl("pull", "--no-unpack", "--json", image).out)["chainID"] == ""
    assert [*daemon.client.snapshotter("overlayfs").walk(daemon.ctx)] == []
    assert refimpl("pull", "--snapshotter", "native", image).status == 0
    assert len([*daemon.client.snapshotter("native").walk(daemon.ctx)]) == 2


@pytest.mark.usefixtures("environment")
def test_platforms_are_chosen_by_name(refimpl: Command, registry: Registry, daemon: FakeContainerd) -> None:
    other, here = registry.image([BIG], "s390x"), registry.image([SMALL])
    ref = registry.name(registry.index(other, here))

    assert refimpl("pull", "--platform", "linux/s390x", ref).out.count("layer") == 1
    assert refimpl("pull", "--all-platforms", ref).out.count("layer") == 2
    both = refimpl("pull", "--platform", "linux/s390x", "--all-platforms", ref)
    assert (both.status, both.err) == (2, "refimpl: either --platform or --all-platforms\n")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "ref,message",
    [
        ("{address}/lib/none:1", "{address}/lib/none:1: not found"),
        ("{address}/LIB/one:1", 'image name "{address}/LIB/one:1": invalid argument'),
        ("127.0.0.1:1/lib/one:1", "127.0.0.1:1: Connection refused: unavailable"),
        ("no-such-host.invalid/lib/one:1", "no-such-host.invalid: no such host: unavailable"),
    ],
)
def test_a_failure_is_one_line(
    refimpl: Command, registry: Registry, image: str, ref: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")

    done = refimpl("pull", ref.format(address=registry.address))

    assert (done.status, done.out, done.err) == (1, "", f"refimpl: {message.format(address=registry.address)}\n")


def test_no_daemon_is_told(refimpl: Command, image: str) -> None:
    done = refimpl("pull", "-a", "/nonexistent.sock", image)

    assert (done.status, done.err.count("\n")) == (1, 1)


@pytest.mark.usefixtures("environment")
def test_a_password_that_was_not_given_is_asked_for(
    refimpl: Command, registry: Registry, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.user = "ann:secret"
    asked: list[str] = []

    def typed(prompt: str) -> str:
        asked.append(prompt)
        return "secret"

    monkeypatch.setattr("getpass.getpass", typed)

    assert refimpl("pull", image).err.endswith("wants a name and a password: use --user NAME: permission denied\n")
    assert refimpl("pull", "--user", "ann", image).status == 0
    assert refimpl("pull", "--user", "ann:secret", image).status == 0
    assert asked == ["Password of ann: "]


def test_an_interrupt_leaves_nothing_that_shows_and_the_next_pull_goes_on(
    daemon: FakeContainerd, environment: dict[str, str], registry: Registry, image: str
) -> None:
    command = [sys.executable, "-m", "refimpl", "pull", image]
    held = threading.Event()
    registry.fault(digest_of(BIG), cut=MIB)
    registry.fault(digest_of(BIG), held=held)
    with heard(signal.SIGINT, signal.default_int_handler):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        assert registry.begun.wait(SECONDS)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
        held.set()

    assert (process.returncode, err) == (130, b"")
    assert left(daemon) == []
    registry.asked.clear()

    assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert registry.ranges_asked() == [f"bytes={MIB}-"]


def test_a_terminal_sees_bars(environment: dict[str, str], image: str) -> None:
    ours, theirs = pty.openpty()
    try:
        shown = {**environment, "COLUMNS": "100", "TERM": "xterm"}
        with subprocess.Popen([sys.executable, "-m", "refimpl", "pull", image], env=shown, stdout=theirs) as process:
            told = Told(ours).until(f"{image} sha256:")
            assert process.wait(SECONDS) == 0
    finally:
        os.close(ours)
        os.close(theirs)
    assert f"layer {digest_of(BIG)[7:19]}" in told
    assert "2.1/2.1 MB" in told


def test_the_daemon_needs_no_library_for_the_network() -> None:
    asked = "import sys, refimpl.cli.serve, refimpl.daemon.serve; print({'requests', 'urllib3'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=SECONDS, check=True)

    assert done.stdout == "set()\n"


def test_help_shows_examples(refimpl: Command) -> None:
    for name in ("pull", "run", "ps", "exec", "stop", "rm"):
        assert f"refimpl {name} " in refimpl(name, "--help").out.partition("Exit status")[0].partition("Usage")[2]
