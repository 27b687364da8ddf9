"""The recorder: every call that a check makes, with request and answer, for the day it fails.

``Recorder.watch`` puts a transparent layer around a protocol object. Iterators and writers that come back are watched
too, so a conversation is complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

from google.protobuf.message import Message

from refimpl.contract.context import CallContext

T = TypeVar("T")

MAX_TEXT = 400
"""Longest rendering of one value in a record, in characters."""

MAX_ITEMS = 10
"""Most values of a list that are rendered."""

MAX_CALLS = 200
"""Calls kept per check; the last ones are those that explain a failure."""

_LAYERED = frozenset({"writer", "reader", "subscribe"})
"""Methods whose answer is itself something to talk to."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as reports show it.

    Attributes:
        answer: what came back; empty while an iterator is still open.
        error: kind and text of the failure; empty for success.
        seconds: how long it took.
    """

    method: str
    request: str
    answer: str
    error: str
    seconds: float

    def __str__(self) -> str:
        outcome = f"!! {self.error}" if self.error else f"-> {self.answer}"
        return f"{self.method}({self.request}) {outcome}"


def shown(value: object) -> str:
    """A value on one line, cut to ``MAX_TEXT`` characters; bytes by length when they are many."""
    if isinstance(value, CallContext):
        return f"ns={value.namespace!r}" + (f" lease={value.lease!r}" if value.lease else "")
    if isinstance(value, bytes) and len(value) > 64:
        return f"<{len(value)} bytes>"
    # Sizes first: the text of a message of 16 MiB takes seconds to make, and nobody would read it.
    size = value.ByteSize() if isinstance(value, Message) else 0
    if size > 4 * MAX_TEXT:
        return f"<{type(value).__name__} of {size} bytes>"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value[:MAX_ITEMS]))}{', ...' if len(value) > MAX_ITEMS else ''}]"
    text = " ".join(repr(value).split()) if size else repr(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


class Recorder:
    """Collects the calls of one check. Threads may share it: appending to a list is atomic."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def watch(self, name: str, target: T) -> T:
        """The same object, with every method call recorded under ``name``."""
        return _Watched(self, name, target)  # type: ignore[return-value]  # a transparent stand-in

    def note(self, method: str, request: str, answer: str, error: str, seconds: float) -> None:
        """Keep one call."""
        self.calls.append(Call(method, request, answer, error, seconds))
        del self.calls[:-MAX_CALLS]


class _Watched:
    def __init__(self, recorder: Recorder, name: str, target: object) -> None:
        self._recorder, self._name, self._target = recorder, name, target

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._target, attribute)
        if not callable(value) or attribute.startswith("_"):
            return value

        def call(*args: object, **kwargs: object) -> Any:
            request = ", ".join([*map(shown, args), *(f"{k}={shown(v)}" for k, v in kwargs.items())])
            method, start = f"{self._name}.{attribute}", time.monotonic()
            try:
                result = value(*args, **kwargs)
            except Exception as error:
                self._recorder.note(method, request, "", f"{type(error).__name__}: {error}", time.monotonic() - start)
                raise
            self._recorder.note(method, request, shown(result), "", time.monotonic() - start)
            if attribute in _LAYERED:
                return _Watched(self._recorder, method, result)
            return result

        return call

    def __iter__(self) -> Iterator[Any]:
        return cast("Iterator[Any]", self._target)

    def __next__(self) -> Any:
        value = next(self._target)  # type: ignore[call-overload]
        self._recorder.note(f"{self._name}.next", "", shown(value), "", 0.0)
        return value

    def __enter__(self) -> Self:
        self._target.__enter__()  # type: ignore[attr-defined]
        return self

    def __exit__(self, *exc: object) -> Any:
        return self._target.__exit__(*exc)  # type: ignore[attr-defined]
