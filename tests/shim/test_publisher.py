"""Events on their way: in order, again until they are taken, given up in the end, and by a program where need be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.shim.events import EventServer, Received
from refimpl.api.event_types_pb2 import TaskOOM, TaskPaused
from refimpl.contract.errors import Unavailable
from refimpl.shim import publisher as module
from refimpl.shim.children import Children
from refimpl.shim.publisher import Publisher
from tests.shim.conftest import SECONDS, until


@pytest.fixture
def events(short: Path) -> Iterator[EventServer]:
    """A daemon that takes events, not yet started."""
    made = EventServer(short / "e.sock")
    yield made
    made.close()


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that a publisher would have made."""
    return []


@pytest.fixture(autouse=True)
def _no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose answer comes late, on a machine that stands still, would be sent once more."""
    monkeypatch.setattr(module, "CALL_SECONDS", SECONDS)


def made(events: EventServer, pauses: list[float]) -> Publisher:
    return Publisher("ns", events.address, Children(looped=False), ("", ""), pauses.append)


def ids(events: EventServer) -> list[str]:
    return [one.container for one in events.received if one.accepted]


def test_events_arrive_in_order_and_are_all_there_after_a_flush(events: EventServer, pauses: list[float]) -> None:
    events.start()
    publisher = made(events, pauses)
    expected = [f"c{number}" for number in range(50)]

    for id in expected:
        publisher.publish("/tasks/oom", TaskOOM(container_id=id))

    assert publisher.flush(SECONDS)
    assert ids(events) == expected
    assert {one.type_url for one in events.received} == {"containerd.events.TaskOOM"}


def test_an_event_that_is_refused_comes_again_before_the_next(events: EventServer, pauses: list[float]) -> None:
    def refuse(_event: Received) -> None:
        if len(events.received) < 3:
            raise Unavailable("not now")

    events.refuse = refuse
    events.start()
    publisher = made(events, pauses)
    publisher.publish("/tasks/oom", TaskOOM(container_id="a"))
    publisher.publish("/tasks/paused", TaskPaused(container_id="b"))

    assert publisher.flush(SECONDS)

    assert [one.container for one in events.received] == ["a", "a", "a", "b"]
    assert ids(events) == ["a", "b"]
    assert len({one.timestamp for one in events.received[:3]}) == 1, "the time is that of the event"
    assert pauses == [0, 1, 2, 0]


def test_an_event_that_nobody_takes_is_given_up(
    events: EventServer, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    publisher = made(events, pauses)
    publisher.publish("/tasks/oom", TaskOOM(container_id="a"))
    assert publisher.flush(SECONDS)
    assert pauses == [0, 1, 2, 3, 4, 5]
    assert "event dropped" in caplog.text

    events.start()
    publisher.publish("/tasks/oom", TaskOOM(container_id="b"))
    assert publisher.flush(SECONDS)
    assert ids(events) == ["b"]


def test_a_line_that_grows_too_long_loses_its_oldest(
    events: EventServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LIMIT", 2)
    free = threading.Event()

    def refuse(_event: Received) -> None:
        free.wait(SECONDS)

    events.refuse = refuse
    events.start()
    publisher = made(events, pauses)
    publisher.publish("/tasks/oom", TaskOOM(container_id="first"))
    assert until(lambda: bool(events.received))
    for id in ("b", "c", "d"):
        publisher.publish("/tasks/oom", TaskOOM(container_id=id))
    assert not publisher.flush(0.01)
    free.set()

    assert publisher.flush(SECONDS)
    assert ids(events) == ["first", "c", "d"]
    assert "event dropped" in caplog.text


def test_a_connection_that_breaks_costs_nothing(events: EventServer, pauses: list[float]) -> None:
    events.start()
    publisher = made(events, pauses)
    publisher.publish("/tasks/oom", TaskOOM(container_id="a"))
    assert publisher.flush(SECONDS)
    events.stop()
    events.start()
    publisher.publish("/tasks/oom", TaskOOM(container_id="b"))
    assert publisher.flush(SECONDS)
    assert ids(events) == ["a", "b"]


def test_without_a_ttrpc_address_a_program_publishes(short: Path, pauses: list[float]) -> None:
    program = short / "publish"
    once, told = short / "once", short / "told"
    fails_once = f"[ -e {once} ] || {{ touch {once}; exit 1; }}"
    program.write_text(f'#!/bin/sh\n{fails_once}\necho "$@" >>{told}\ncat >>{told}\n')
    program.chmod(0o755)
    publisher = Publisher("ns", "", Children(looped=False), (str(program), "/x/c.sock"), pauses.append)
    publisher.publish("/tasks/oom", TaskOOM(container_id="a"))

    assert publisher.flush(SECONDS)

    first, _, rest = told.read_bytes().partition(b"\n")
    assert first == b"--address /x/c.sock publish --topic /tasks/oom --namespace ns"
    assert rest == b"\x0a\x19containerd.events.TaskOOM\x12\x03\x0a\x01a"
    assert pauses == [0, 1]


def test_without_either_nobody_is_told() -> None:
    publisher = Publisher("ns", "", Children(looped=False), ("", ""))
    publisher.publish("/tasks/oom", TaskOOM(container_id="a"))
    assert publisher.flush(SECONDS)
