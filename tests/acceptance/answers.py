"""The same request to two daemons, and whether they say the same.

An answer is a text: the messages with all their fields, the status and its text, headers and trailers. Only what has to
differ is replaced: each daemon's directory, times that a clock gave, and ids that chance made.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from conformance.runc_state import PREFIX
from refimpl.api import typeurl
from refimpl.api.events_v1_pb2 import PublishRequest
from tests.acceptance.messages import Times, placed
from tests.acceptance.odd_requests import Request, call, method

_PATIENCE, _PAUSE = 60.0, 0.05  # seconds
_SHORT = 10.0
"""A request that gives up before that is expected to: it changes nothing, and may be sent again."""

_RANDOM_ID = re.compile(r"\b\d{6,9}-[A-Za-z0-9_-]{4}(?![A-Za-z0-9_-])")
_MOUNT = re.compile(r"containerd-mount\d+")
_SNAPSHOT = re.compile(r"/(io\.containerd\.snapshotter\.v1\.\w+)/snapshots/\d+")
_NAMESPACE = re.compile(rf"({PREFIX}[\w-]+?)-[cr](?![A-Za-z0-9])")
_PID = re.compile(r"\bpid: [1-9]\d*")
_DATA = re.compile(r"value: b(?:'.*?(?<!\\)'|\".*?(?<!\\)\")")
_INGESTS = {"Content/Write", "Content/Status", "Content/ListStatuses"}
NOT_BUILT = {"cri"}
"""Plugins that refimpl has a place for, and no more."""

_LONG = 400


@dataclass(frozen=True)
class Answer:
    """What came back, readable and comparable; ``code`` is the status' name."""

    code: str
    text: str
    messages: Sequence[str]
    trailers: Sequence[tuple[str, str]] = ()

    @property
    def late(self) -> bool:
        """Whether the client's time was over, as the client says or the daemon."""
        return "deadline exceeded" in self.text.lower()

    def __str__(self) -> str:
        lines = [f"{self.code}: {_short(self.text)}" if self.text else self.code, *map(_short, self.messages)]
        return "\n".join([*lines, *(f"trailer {key}: {value}" for key, value in self.trailers)])


class Side:
    """One of the two daemons: its directory, its namespaces, and a channel to it."""

    def __init__(self, name: str, base: str, address: str) -> None:
        self.base = base
        # Control groups and the OCI runtime's state are the machine's, by namespace: no namespace is in both.
        self._end = f"-{name[0]}"
        self._directories: dict[str, str] = {}
        self._channel = grpc.insecure_channel(
            f"unix:{address}",
            options=[
                ("grpc.default_authority", "localhost"),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", 1 << 26),
                ("grpc.max_send_message_length", 1 << 26),
                ("grpc.max_metadata_size", 1 << 20),
                ("grpc.absolute_max_metadata_size", 1 << 20),
            ],
        )

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def ask(self, request: Request, ns: str) -> Answer:
        """Send a request and wait for the end of its answer."""
        ns += self._end
        descriptor = method(request.method)
        answer_class = GetMessageClass(descriptor.output_type)
        stream: Any = self._channel.stream_stream(
            f"/{descriptor.containing_service.full_name}/{descriptor.name}",
            request_serializer=lambda each: each,
            response_deserializer=answer_class.FromString,
        )
        sent = [each if isinstance(each, bytes) else placed(each, self.base, ns) for each in request.messages]
        headers: list[tuple[str, str | bytes]] = [(key, value.replace("{ns}", ns)) for key, value in request.headers]
        headers = [(key, str(value).encode() if key.endswith("-bin") else value) for key, value in headers]
        received: list[Message] = []
        code, text = "OK", ""
        running = stream(iter(sent), metadata=headers, timeout=request.timeout)
        try:
            for each in running:
                received.append(each)
                if len(received) == request.limit:
                    running.cancel()
        except grpc.RpcError:
            code, text = running.code().name, running.details() or ""
        trailers = [(key, str(value)) for key, value in running.trailing_metadata() or ()]
        times = Times()
        for each in received:
            times.see(each)
        for each in received:
            _settle(request.method, each)
        shown = [self._plain(times.shown(each)) for each in received]
        if request.method in _INGESTS:
            # A file's time comes from a coarser clock: which of two times is later is chance.
            shown = [re.sub(r"<time \d+>", "<time>", each) for each in shown]
        if request.method == "Tasks/Metrics":
            # What a cgroup has counted, and when that was read.
            shown = [_DATA.sub("data", re.sub(r"<time \d+>", "<time>", each)) for each in shown]
        return Answer(code, self._plain(text), shown, sorted(trailers))

    @contextmanager
    def listening(self) -> Iterator[Callable[[str], list[str]]]:
        """Hear all events; see ``Both.listening``."""
        answer_class = GetMessageClass(method("Events/Subscribe").output_type)
        subscribe: Any = self._channel.unary_stream(
            "/containerd.services.events.v1.Events/Subscribe",
            request_serializer=lambda each: each,
            response_deserializer=answer_class.FromString,
        )
        stream, heard = subscribe(b""), queue.Queue[Any]()

        def listen() -> None:
            with suppress(grpc.RpcError):
                for envelope in stream:
                    heard.put(envelope)

        listener = threading.Thread(target=listen, name="listener")
        listener.start()
        try:
            # containerd does not say from when on it tells: who has heard something hears all that follows.
            deadline = time.monotonic() + _PATIENCE
            while heard.empty():
                assert time.monotonic() < deadline, "nothing is heard"
                self._mark("/mark/begin", "begin")
                time.sleep(_PAUSE)
            yield lambda ns: self._until_marked(heard, ns)
        finally:
            stream.cancel()
            listener.join()

    def _mark(self, topic: str, ns: str) -> None:
        event = PublishRequest(topic=topic)
        event.event.type_url = "mark"
        self.ask(call("Events/Publish", event), ns)

    def _until_marked(self, heard: queue.Queue[Any], ns: str) -> list[str]:
        """All events that were told so far, without their times."""
        self._mark("/mark/end", ns)
        found = []
        while (envelope := heard.get(timeout=_PATIENCE)).topic != "/mark/end":
            if envelope.topic == "/mark/begin":
                continue
            message = typeurl.MESSAGES[envelope.event.type_url].FromString(envelope.event.value)
            text = f"{envelope.topic} in {envelope.namespace}: {Times().shown(message)}"
            found.append(self._plain(text).replace(self._end, ""))
        return found

    def _plain(self, text: str) -> str:
        text = _SNAPSHOT.sub(self._directory, _PID.sub("pid: <pid>", text))
        text = _NAMESPACE.sub(r"\1", text)
        return _MOUNT.sub("<mount>", _RANDOM_ID.sub("<id>", text.replace(self.base, "{base}")))

    def _directory(self, found: re.Match[str]) -> str:
        """Snapshots' directories are numbered, and a failure may use a number up: theirs is the order that counts."""
        return self._directories.setdefault(found[0], f"/{found[1]}/snapshots/<{len(self._directories) + 1}>")


def _settle(method: str, answer: Any) -> None:
    """Sort what comes out of a Go map, in any order; leave out what is not built here."""
    if method == "Introspection/Plugins":
        kept = [plugin for plugin in answer.plugins if plugin.id not in NOT_BUILT]
        del answer.plugins[:]
        answer.plugins.extend(kept)
    if method == "Tasks/List":
        answer.tasks.sort(key=lambda task: task.id)
    if method == "Tasks/Metrics":
        answer.metrics.sort(key=lambda metric: metric.id)
    if method == "Content/ListStatuses":
        answer.statuses.sort(key=lambda status: status.ref)


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG // 2]}...{len(text)}...{text[-_LONG // 2 :]}"


def shown(request: Request) -> str:
    """The request for a reader."""
    headers = ", ".join(f"{key}: {_short(value)}" for key, value in request.headers)
    times = Times()
    messages = [_short(repr(each) if isinstance(each, bytes) else times.shown(each)) for each in request.messages]
    more = f" cancelled after {request.limit} answers" if request.limit >= 0 else ""
    return "\n    ".join([f"{request.method} ({headers}){more}", *messages])


@dataclass
class Difference:
    """Two answers that are not the same."""

    request: Request
    ns: str
    left: Answer
    right: Answer

    def kind(self) -> tuple[str, ...]:
        """What differences with the same cause have in common, as far as can be told."""
        words = (re.sub(r"[^A-Za-z ]", "", each.text)[:60] for each in (self.left, self.right))
        return (self.request.method, self.left.code, self.right.code, *words)

    def __str__(self) -> str:
        return f"{shown(self.request)}\n  containerd: {_indented(self.left)}\n  refimpl:    {_indented(self.right)}"


def _indented(answer: Answer) -> str:
    return str(answer).replace("\n", "\n    ")


@dataclass
class Both:
    """The two daemons, asked at the same time."""

    left: Side
    right: Side
    differences: list[Difference] = field(default_factory=list)
    asked: int = 0
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def ask(self, request: Request, ns: str) -> tuple[Answer, Answer]:
        """Send the request to both; what differs is noted."""
        left, right = self.hear(request, ns)
        if left != right:
            self.differences.append(Difference(request, ns, left, right))
        return left, right

    def hear(self, request: Request, ns: str) -> tuple[Answer, Answer]:
        """Send the request to both; what differs is the caller's matter."""
        self.asked += 1
        left, right = self._hear(request, ns)
        if 0 < request.timeout < _SHORT and left.late != right.late:
            # One of them has an answer, and the other may only have been slow.
            return self._hear(replace(request, timeout=_PATIENCE), ns)
        return left, right

    def _hear(self, request: Request, ns: str) -> tuple[Answer, Answer]:
        pending = self._pool.submit(self.left.ask, request, ns)
        right = self.right.ask(request, ns)
        return pending.result(), right

    def ask_at_once(self, request: Request, ns: str, times: int) -> None:
        """Send the same request several times at once, to one side after the other; the order of answers is chance."""
        heard = []
        for side in (self.left, self.right):
            with ThreadPoolExecutor(times) as pool:
                answers = pool.map(lambda _, side=side: side.ask(request, ns), range(times))
            heard.append(sorted(answers, key=str))
        for left, right in zip(*heard, strict=True):
            if left != right:
                self.differences.append(Difference(request, ns, left, right))

    @contextmanager
    def listening(self) -> Iterator[Callable[[str], tuple[list[str], list[str]]]]:
        """Hear the events of both sides.

        Yields:
            What answers with all that was told so far, told the name of a namespace that nobody has used.
        """
        with self.left.listening() as left, self.right.listening() as right:
            yield lambda ns: (left(ns), right(ns))

    def close(self) -> None:
        """Close both channels."""
        self._pool.shutdown()
        self.left.close()
        self.right.close()
