"""One connection to a daemon: where a ``CallContext`` becomes headers and a deadline, and a status becomes an error.

Everything that waits here is bounded: by the context's deadline, else by the connection's timeout. What a caller has
to know about gRPC ends in this module.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import grpc

from refimpl.api.status import error_from
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Canceled, ContainerdError, DeadlineExceeded, InvalidArgument, Unavailable

TIMEOUT = 10.0
"""Seconds that a call may take when its context has no deadline."""

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message that are accepted; containerd's own limit is 16 MiB for requests and none for answers."""

_LOCAL_DEADLINE = "Deadline Exceeded"
"""What grpcio says, alone or inside another sentence, when its own clock ended a call; Go writes it in lower case."""

_HEADER = re.compile(r"[\x20-\x7e]*")
"""The bytes that HTTP/2 headers are made of."""

_OPTIONS = (
    # A pool of its own: two clients never share a connection, so that a broken one stays the problem of one client.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", -1),
    # A daemon that comes back is found at once, not after grpc's usual second and more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name this is how long one attempt to connect may take; a busy daemon greets late.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A refused call is an answer that the caller wants to see.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str], ...]


def error_of(failure: grpc.RpcError | grpc.Call) -> ContainerdError:
    """The error that a failed call stands for; its text is the server's, character for character.

    A call that this side ended (deadline, cancel) has the text that Go's client gives it.
    """
    call = cast("grpc.Call", failure)
    code, text = call.code(), call.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and _LOCAL_DEADLINE in text:
        return DeadlineExceeded()
    error = error_from(code.value[0], text)
    if text and str(error) != text:
        # Some texts come without their kind (CNT-001); repeating them must not invent one.
        return type(error)(text, bare=True)
    return error


def headers_of(ctx: CallContext) -> Metadata:
    """The request metadata of a context: namespace, lease, and whatever else it carries.

    Raises:
        InvalidArgument: a value that no header can carry.
    """
    named = (("containerd-namespace", ctx.namespace), ("containerd-lease", ctx.lease))
    headers = tuple((key, value) for key, value in named if value) + tuple(ctx.headers.items())
    for key, value in headers:
        if not _HEADER.fullmatch(value):
            raise InvalidArgument(f"header {key} cannot be sent: {value!r}")
    return headers


class Connection:
    """A lazily opened channel to one unix socket.

    The channel is made at first use, never at construction: a process that forks in between stays well, because
    grpc's threads do not survive a fork.

    Args:
        address: path of the socket, also written ``unix:///path``.
        timeout: seconds for a call whose context has no deadline.
        authority: the ``:authority`` header.
    """

    def __init__(self, address: str, *, timeout: float = TIMEOUT, authority: str = "localhost") -> None:
        self.address = address.removeprefix("unix://")
        self.timeout = timeout
        self._authority = authority
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._closed = False

    @property
    def channel(self) -> grpc.Channel:
        """The channel for stubs.

        Raises:
            Unavailable: the connection was closed.
        """
        with self._lock:
            if self._closed:
                raise self._gone()
            if self._channel is None:
                options = (*_OPTIONS, ("grpc.default_authority", self._authority))
                self._channel = grpc.insecure_channel(f"unix:{self.address}", options=options)
            return self._channel

    def close(self) -> None:
        """End every call and stream of this connection. Idempotent, from any thread."""
        with self._lock:
            channel, self._channel, self._closed = self._channel, None, True
        if channel is not None:
            channel.close()

    def seconds(self, ctx: CallContext, allowance: float = 0.0) -> float:
        """How long a call under ``ctx`` may take from now; a deadline is kept whatever the allowance."""
        return self.timeout + allowance if ctx.deadline is None else max(ctx.deadline - time.monotonic(), 0.0)

    def unary(
        self,
        ctx: CallContext,
        method: grpc.UnaryUnaryMultiCallable[Question, Answer],
        question: Question,
        *,
        allowance: float = 0.0,
    ) -> Answer:
        """Ask once.

        Args:
            allowance: seconds on top of the connection's timeout, for work that is known to be long.

        Raises:
            ContainerdError: what the server answered, or that it did not answer in time or at all.
        """
        ctx.check()
        seconds = self.seconds(ctx, allowance)
        with self.errors():
            if ctx.cancel is None:
                return method(question, timeout=seconds, metadata=headers_of(ctx))
            call = method.future(question, timeout=seconds, metadata=headers_of(ctx))
            with cancelling(ctx, call.cancel):
                try:
                    return call.result()
                except grpc.FutureCancelledError as end:
                    raise Canceled from end

    def stream(
        self,
        ctx: CallContext,
        method: grpc.UnaryStreamMultiCallable[Question, Answer],
        question: Question,
        *,
        allowance: float = 0.0,
    ) -> Iterator[Answer]:
        """Ask once and yield the answers; leaving the iteration ends the call.

        Args:
            allowance: as for ``unary``.

        Raises:
            ContainerdError: as for ``unary``.
        """
        ctx.check()
        with self.errors(ctx):
            call = method(question, timeout=self.seconds(ctx, allowance), metadata=headers_of(ctx))
            try:
                with cancelling(ctx, call.cancel):
                    yield from call
            finally:
                call.cancel()

    @contextmanager
    def errors(self, ctx: CallContext | None = None) -> Iterator[None]:
        """Turn what grpcio raises inside the block into error kinds."""
        try:
            yield
        except grpc.RpcError as failure:
            if ctx is not None and ctx.cancel is not None and ctx.cancel.cancelled:
                raise Canceled from failure
            raise error_of(failure) from failure
        except ValueError as refusal:
            # grpcio has no type of its own for a closed channel.
            if self._closed:
                raise self._gone() from refusal
            raise

    def _gone(self) -> Unavailable:
        return Unavailable(f"connection to {self.address} is closed")


@contextmanager
def cancelling(ctx: CallContext, cancel: Callable[[], object]) -> Iterator[None]:
    """Have the context's cancel token end a call for as long as the block runs."""
    if ctx.cancel is None:
        yield
        return

    def end() -> None:
        cancel()

    ctx.cancel.on_cancel(end)
    try:
        yield
    finally:
        ctx.cancel.forget(end)
