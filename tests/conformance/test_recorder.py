"""The recorder: sees every call, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.recorder import MAX_CALLS, MAX_TEXT, Recorder, shown
from refimpl.api import content_v1_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound


class Store:
    size = 7

    def get(self, ctx: CallContext, name: str, *, loud: bool = False) -> str:
        if name == "none":
            raise NotFound("no such thing")
        return name.upper() if loud else name

    def writer(self, ctx: CallContext) -> Store:
        return self

    def subscribe(self) -> Iterator[int]:
        return iter([1, 2])


CTX = CallContext(namespace="n", lease="l")


def test_a_call_is_kept_with_request_and_answer() -> None:
    recorder = Recorder()
    store = recorder.watch("store", Store())
    assert store.get(CTX, "a", loud=True) == "A"
    assert store.size == 7
    assert [str(c) for c in recorder.calls] == ["store.get(ns='n' lease='l', 'a', loud=True) -> 'A'"]


def test_a_failure_is_kept_and_passed_on() -> None:
    recorder = Recorder()
    with pytest.raises(NotFound):
        recorder.watch("store", Store()).get(CTX, "none")
    assert str(recorder.calls[0]).endswith("!! NotFound: no such thing: not found")


def test_what_comes_back_from_a_conversation_is_watched_too() -> None:
    recorder = Recorder()
    store = recorder.watch("store", Store())
    store.writer(CTX).get(CTX, "b")
    subscription = store.subscribe()
    assert next(subscription) == 1
    assert [c.method for c in recorder.calls] == [
        "store.writer",
        "store.writer.get",
        "store.subscribe",
        "store.subscribe.next",
    ]


def test_only_the_last_calls_are_kept() -> None:
    recorder = Recorder()
    store = recorder.watch("store", Store())
    for number in range(MAX_CALLS + 5):
        store.get(CTX, str(number))
    assert len(recorder.calls) == MAX_CALLS
    assert recorder.calls[-1].answer == f"'{MAX_CALLS + 4}'"


def test_large_values_are_shown_by_their_size() -> None:
    assert shown(b"x" * 65) == "<65 bytes>"
    assert shown("y" * 1000).endswith(" (1002 characters)")
    assert len(shown("y" * 1000)) < MAX_TEXT + 30
    message = content_v1_pb2.WriteContentRequest(ref="r", data=b"z" * 10_000)
    assert shown(message) == f"<WriteContentRequest of {message.ByteSize()} bytes>"
    assert shown(list(range(12))) == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"
    assert shown(content_v1_pb2.InfoRequest(digest="d")) == 'digest: "d"'
