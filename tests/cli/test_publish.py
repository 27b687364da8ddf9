"""``refimpl publish`` (DMN-062, DMN-063)."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.protobuf.any_pb2 import Any as ProtoAny

from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.types import TypedAny
from tests.cli.commands import Command

EVENT = ProtoAny(type_url="types.example/Foo", value=b"abc").SerializeToString()

Feed = Callable[[bytes], None]


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    """Put bytes on the standard input."""
    return lambda data: monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def bounded() -> CallContext:
    """For a subscription: an event that does not come is a failure, not a wait without end."""
    return CallContext(deadline=time.monotonic() + 60)


@pytest.mark.parametrize("source", ["stdin", "file"])
def test_an_event_reaches_the_bus(refimpl: Command, address: str, feed: Feed, tmp_path: Path, source: str) -> None:
    (tmp_path / "event").write_bytes(EVENT)
    feed(EVENT if source == "stdin" else b"")
    from_file = ["--event", str(tmp_path / "event")] if source == "file" else []
    with Client(address) as client:
        subscription = client.events.subscribe(bounded(), ['topic=="/my/topic"'])
        done = refimpl("publish", "-a", address, "--namespace", "ns1", "--topic", "/my/topic", *from_file)
        assert (done.status, done.out, done.err) == (0, "", "")
        envelope = next(subscription)
        subscription.close()
    assert (envelope.namespace, envelope.topic) == ("ns1", "/my/topic")
    assert envelope.event == TypedAny("types.example/Foo", b"abc")
    assert envelope.timestamp > 0


def test_no_input_is_an_empty_event(refimpl: Command, address: str, feed: Feed) -> None:
    feed(b"")
    assert refimpl("publish", "-a", address, "--namespace", "ns1", "--topic", "/my/topic").status == 0


def test_the_address_may_stand_before_the_command(refimpl: Command, address: str, feed: Feed) -> None:
    feed(EVENT)
    assert refimpl("--address", address, "publish", "--namespace", "ns1", "--topic", "/my/topic").status == 0
    assert refimpl("--address", "/nonexistent", "plugins", "ls").status == 1
    assert refimpl("--address", "/nonexistent", "plugins", "ls", "--address", address).status == 0


@pytest.mark.parametrize(
    "arguments,data,message",
    [
        (["--namespace", "ns1"], EVENT, "topic required to publish event: invalid argument"),
        (["--topic", "/t"], EVENT, "namespace is required"),
        (["--namespace", "ns1", "--topic", "nos"], EVENT, "nos"),
        (["--namespace", "ns1", "--topic", "/a b"], EVENT, "a b"),
        (["--namespace", "ns1", "--topic", "/"], EVENT, "/"),
        (["--namespace", "ns1", "--topic", "/t"], b"\xff\xff\xff", "is no google.protobuf.Any"),
        (["--namespace", "ns1", "--topic", "/t", "--event", "/nonexistent"], b"", "/nonexistent"),
    ],
)
def test_what_cannot_be_published_is_told(
    refimpl: Command, address: str, feed: Feed, arguments: list[str], data: bytes, message: str
) -> None:
    feed(data)
    done = refimpl("publish", "-a", address, *arguments)
    assert done.status == 1
    assert message in done.err
    assert done.err.count("\n") == 1


def test_no_daemon_is_told_within_seconds(refimpl: Command, feed: Feed) -> None:
    feed(EVENT)
    assert refimpl("publish", "-a", "/nonexistent.sock", "--namespace", "ns1", "--topic", "/t").status == 1


@pytest.mark.debian("containerd")
def test_containerds_own_publish_reaches_our_bus(address: str) -> None:
    with Client(address) as client:
        subscription = client.events.subscribe(bounded(), ['topic=="/real/topic"'])
        subprocess.run(
            ["containerd", "-a", address, "publish", "--namespace", "ns1", "--topic", "/real/topic"],
            input=EVENT, timeout=60, check=True, capture_output=True,
        )  # fmt: skip
        assert next(subscription).event == TypedAny("types.example/Foo", b"abc")
        subscription.close()
