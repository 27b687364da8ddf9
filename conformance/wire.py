"""The wire: raw gRPC calls for the few clauses that are about messages and not about meaning.

Everything else is judged through the contract's protocols. ``Wire`` sends protobuf messages exactly as given (absent
sub-messages, streams closed early, odd headers) and reports code and message of the status.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from conformance import patience
from conformance.recorder import Recorder, shown

MAX_MESSAGE = 16 * 1024 * 1024
"""containerd's limit for one message, in bytes."""

TIMEOUT = 2 * patience.SECONDS
"""Seconds that one raw call may take before it counts as hanging."""

_MODULES = (
    "containers",
    "content",
    "diff",
    "events",
    "images",
    "introspection",
    "leases",
    "namespaces",
    "snapshots",
    "tasks",
    "version",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one call.

    Attributes:
        messages: in the order received, also those before a failure.
        code: name of the status code (``OK``, ``NOT_FOUND``, ...).
        message: the status text.
    """

    messages: Sequence[Any]
    code: str
    message: str = ""
    trailers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.code == "OK"


class Wire:
    """A channel to one daemon.

    Args:
        address: path of a unix socket.
        authority: the ``:authority`` header; Go's client sends the socket path here.
    """

    def __init__(self, address: str, recorder: Recorder | None = None, *, authority: str = "localhost") -> None:
        self._recorder = recorder or Recorder()
        self._channel = grpc.insecure_channel(
            f"unix:{address}",
            options=[
                ("grpc.default_authority", authority),
                # One channel per check: a broken check must not poison the connection of the next.
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", 4 * MAX_MESSAGE),
                ("grpc.max_send_message_length", 4 * MAX_MESSAGE),
            ],
        )

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def call(
        self,
        method: str,
        *requests: Message,
        namespace: str | None = None,
        lease: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        limit: int | None = None,
    ) -> Answer:
        """Make one call of any kind and wait for its end.

        Args:
            method: full name, ``containerd.services.content.v1.Content/Write``.
            requests: the messages to send; all of them, then the sending side is closed.
            namespace, lease: values of containerd's headers; None leaves the header out.
            headers: further request metadata.
            timeout: seconds; past it the code is ``DEADLINE_EXCEEDED``.
            limit: cancel after this many answers (for streams that do not end by themselves).
        """
        return self.stream(
            method, iter(requests), namespace=namespace, lease=lease, headers=headers, timeout=timeout, limit=limit
        )

    def stream(
        self,
        method: str,
        requests: Iterable[Message],
        *,
        namespace: str | None = None,
        lease: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        limit: int | None = None,
        heard: Callable[[Any], object] | None = None,
    ) -> Answer:
        """Like ``call``, with requests from an iterator that may look at the world between two messages.

        Args:
            heard: told of each answer as it comes.
        """
        metadata = list((headers or {}).items())
        if namespace is not None:
            metadata.append(("containerd-namespace", namespace))
        if lease is not None:
            metadata.append(("containerd-lease", lease))
        response = GetMessageClass(_descriptor(method).output_type)
        sent: list[str] = []
        stream: Any = self._channel.stream_stream(
            f"/{method}", request_serializer=lambda m: m.SerializeToString(), response_deserializer=response.FromString
        )
        start = time.monotonic()
        call = stream(_noted(requests, sent), metadata=metadata, timeout=timeout)
        answers: list[Any] = []
        code, message, trailers = "OK", "", {}
        try:
            for answer in call:
                answers.append(answer)
                if heard is not None:
                    heard(answer)
                if limit is not None and len(answers) >= limit:
                    call.cancel()
                    break
            else:
                trailers = {k: str(v) for k, v in call.trailing_metadata() or ()}
        except grpc.RpcError:
            code, message = call.code().name, call.details() or ""
            trailers = {k: str(v) for k, v in call.trailing_metadata() or ()}
        self._recorder.note(
            f"wire {method} ns={namespace!r}",
            "; ".join(sent),
            shown(answers),
            "" if code == "OK" else f"{code}: {message}",
            time.monotonic() - start,
        )
        return Answer(answers, code, message, trailers)


def _noted(requests: Iterable[Message], sent: list[str]) -> Iterator[Message]:
    for request in requests:
        sent.append(shown(request))
        yield request


def _descriptor(method: str) -> Any:
    """The method's descriptor; all four kinds of call are streams on the wire, so the types are all we need."""
    service, _, name = method.partition("/")
    for stem in _MODULES:
        module = importlib.import_module(f"refimpl.api.{stem}_v1_pb2")
        for descriptor in module.DESCRIPTOR.services_by_name.values():
            if descriptor.full_name == service:
                return descriptor.methods_by_name[name]
    raise KeyError(f"no such method: {method}")
